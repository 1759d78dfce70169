# SPDX-License-Identifier: Apache-2.0
"""The traced steps and their table."""

from __future__ import annotations

import torch

from benchmarks.bundles import BENCHMARKS
from custom.files import write_json

from .trace import Step, trace

RESULT = BENCHMARKS / "results" / "fake_cuda.json"
PRETEXTS = ("denoising", "in_painting", "models_genesis", "rotation", "simclr", "simsiam", "byol", "deep_cluster")
SIMILARITY = {
    "matching_head::deformable_head": {
        "_target_": "custom.networks.SimilarityHead",
        "in_channels": "$@channels[0]",
        "embedding_channels": "$@channels[0]",
        "levels": [[2, 3], [1, 1]],
    }
}
STEPS = {
    "gvsl": Step(),
    "gvsl, similarity head": Step(overrides=SIMILARITY),
    "gvsl, paper.json": Step(overlays=("paper.json",)),
    "gvsl, paper.json, amp": Step(overlays=("paper.json",), amp=True),
    **{name: Step(overlays=(f"pretext/{name}.json",)) for name in PRETEXTS},
    "heart": Step("gvsl_seg_heart"),
    "heart, amp": Step("gvsl_seg_heart", amp=True),
    "coronary": Step("gvsl_seg_coronary"),
    "brain": Step("gvsl_seg_brain", overrides={"loss::weight": None}),
    "covid": Step("gvsl_covid_cls"),
}


def report(output: str = str(RESULT)) -> None:
    """Traces every step, prints a line for each and writes the result.

    Args:
        output: the JSON file.
    """
    traced = {}
    for name, step in STEPS.items():
        traced[name] = trace(step)
        print(f"{name}: {traced[name]['peak_gib']} GiB, {sum(traced[name]['syncs'].values())} syncs", flush=True)
    content = {"command": "python -m benchmarks.fake_cuda", "torch": torch.__version__, "steps": traced}
    write_json(output, content, "the traced steps")
