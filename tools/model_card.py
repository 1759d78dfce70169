# SPDX-License-Identifier: Apache-2.0
"""The model card of a bundle in the form of Hugging Face: YAML front matter before the text of docs/README.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

PIPELINES = {  # format of the network's output in metadata.json -> task of the hub
    "segmentation": "image-segmentation",
    "classes": "image-classification",
    "feature": "image-feature-extraction",
}

DATA_SETS = {"synthetic": "synthetic", "files": "medical"}  # "trained_on" of model.json -> type of the data


def model_card(name: str, metadata: Mapping[str, Any], weights: Mapping[str, Any], readme: str) -> str:
    """The README.md of a repository that holds a bundle.

    The data sets of the hub (`datasets`) are not named: the shipped weights were trained on none of them. The data
    stand in `model-index`, with the `eval_metrics` of the metadata.

    Args:
        name: name of the bundle.
        metadata: content of configs/metadata.json.
        weights: content of models/model.json, whose licence is that of the card.
        readme: content of docs/README.md, with a line "Tags: a, b."

    Raises:
        ValueError: the README has no line of tags, or an entry of the metadata is missing or is not known.
    """
    if missing := [entry for entry in ("data_source", "eval_metrics") if entry not in metadata]:
        raise ValueError(f"configs/metadata.json of {name} has no {missing[0]}, which the model card needs")
    tags = re.search(r"^Tags: (.+)\.$", readme, re.MULTILINE)
    if tags is None:
        raise ValueError(f"docs/README.md of {name} has no tags, expected a line 'Tags: a, b.'")
    output = metadata["network_data_format"]["outputs"]["pred"]["format"]
    if output not in PIPELINES:
        raise ValueError(f"configs/metadata.json of {name} has an output of format {output!r}, expected {[*PIPELINES]}")
    pipeline = PIPELINES[output]
    metrics = metadata["eval_metrics"]
    result = {
        "task": {"type": pipeline, "name": metadata["task"]},
        "dataset": {"type": DATA_SETS[weights["trained_on"]], "name": metadata["data_source"]},
        "metrics": [{"type": metric, "value": value} for metric, value in metrics.items()],
    }
    front = {
        "license": weights["licence"].lower().replace(" ", "-"),
        "library_name": "monai",
        "pipeline_tag": pipeline,
        "tags": ["monai", "medical", *tags[1].split(", ")],
        "metrics": list(metrics),
        "model-index": [{"name": name, "results": [result]}],
    }
    body = re.sub(r"\]\((?![a-z]+:|#|/)", "](docs/", readme)
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n{body}"
