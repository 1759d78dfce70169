# SPDX-License-Identifier: Apache-2.0
"""Functions for data sets with label maps: cases, values of a label map, dataset.json."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

from ..files import write_json
from .cases import Case, PreparationReport
from .splits import draw_split, scaled_sizes, split_note

logger = logging.getLogger(__name__)


def segmentation_case(name: str, files: Mapping[str, str]) -> Case:
    """A case that writes images/NAME.nii.gz and, with a label, labels/NAME.nii.gz.

    Args:
        name: name of the case.
        files: {"image": path, "label": path (optional)}.
    """
    return Case(name, files, {key: f"{key}s/{name}.nii.gz" for key in files})


def label_counts(label: torch.Tensor) -> dict[int, int]:
    """Value -> number of voxels in a label map, including the background."""
    values, counts = torch.unique(torch.as_tensor(label), return_counts=True)
    return {int(value): int(count) for value, count in zip(values, counts, strict=True)}


def write_description(
    report: PreparationReport,
    name: str,
    modality: str,
    labels: Mapping[str, int],
    sizes: Mapping[str, int],
    seed: int,
    parameters: Mapping[str, Any],
    groups: Mapping[str, str] | None = None,
) -> PreparationReport:
    """Write dataset.json as in the Decathlon: name, modality, labels and the lists of the split.

    Items are {"image", "label", "subject"}, with "group" if there are groups, one for each target but the label.
    Images without labels are listed by their paths in the list `test`, or in the list `unlabelled` if `sizes` has the
    list `test`.

    Args:
        report: result of `prepare_cases`.
        name: name of the data set.
        modality: "CT" or "MR".
        labels: structure -> value in the label maps.
        sizes: list -> number of labelled cases; see `scaled_sizes`.
        seed: seed of the split.
        parameters: settings of the preparation; they are copied.
        groups: name -> group; each list has equal shares of the groups.

    Returns:
        `report`.

    Raises:
        ValueError: there are fewer labelled cases than lists.
    """
    cases = report.ready
    labelled = [case for case, files in cases.items() if "label" in files.targets]
    scaled = scaled_sizes(len(labelled), sizes)
    note = split_note(len(labelled), sizes, scaled)
    logger.info(note)
    kinds = sorted({(groups or {}).get(case, "") for case in labelled})
    classes = {case: kinds.index((groups or {}).get(case, "")) for case in labelled}
    lists: dict[str, list] = {"training": []}
    lists |= {
        part: [
            item | {"subject": case} | ({"group": groups[case]} if groups else {})
            for case in chosen
            for item in _items(cases[case])
        ]
        for part, chosen in draw_split(classes, scaled, seed).items()
    }
    unlabelled = [item["image"] for files in cases.values() if "label" not in files.targets for item in _items(files)]
    lists["unlabelled" if "test" in lists else "test"] = unlabelled
    description = {
        "name": name,
        "modality": {"0": modality},
        "labels": {"0": "background"} | {str(value): structure for structure, value in labels.items()},
        "preprocessing": dict(parameters),
        "split": {"seed": seed, "note": note},
        "numTraining": len(lists["training"]),
        "numTest": len(lists["test"]),
        **lists,
    }
    write_json(report.output_dir / "dataset.json", description, "the description of the data set")
    return report


def _items(case: Case) -> list[dict[str, str]]:
    """The images of a case, every target but the label, each with the label map if there is one."""
    paths = {key: f"./{path}" for key, path in case.targets.items()}
    label = {key: path for key, path in paths.items() if key == "label"}
    return [{"image": path} | label for key, path in paths.items() if key != "label"]
