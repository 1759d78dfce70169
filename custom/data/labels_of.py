# SPDX-License-Identifier: Apache-2.0
"""The structures, or classes, of a labelled data set: from its dataset.json, or from the label maps."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..volumes import load_volume
from .datalist import path_of
from .dataset_json import has_no_lists, listed_labels, stated_labels
from .layout import find_layout
from .pretraining import is_default_cohort

logger = logging.getLogger(__name__)


def labels_of(
    dataset_dir: str, default: Mapping[str, int], cohort: Any = None, background: Sequence[int] = ()
) -> dict[str, int]:
    """
    The names and values of the labels of a data set.

    The entry "labels" of dataset.json has them. Without it, they are the values that occur in the label maps (or the
    classes that dataset.json lists); these have the names of `default` if it names all of them, otherwise label_VALUE.
    All label maps are read then.

    Args:
        dataset_dir: the folder.
        default: structure -> value of the cohort, and of a data set without any label.
        cohort: see `custom.data.labelled_data`; its labels are those of `default`.
        background: values of label maps that are no structure, in addition to 0.

    Returns:
        Structure or class -> value, by value or in the order of dataset.json.

    Raises:
        ValueError: dataset.json is malformed, or its labels are not one whole number each.
        VolumeError: a label map cannot be read.
    """
    root = path_of(dataset_dir)
    labels = [] if is_default_cohort(root, cohort) else _found_labels(root)
    if not labels:  # or no data set, of which `labelled_data` says what is missing
        return dict(default)
    are_classes = all(isinstance(label, int) for label in labels)
    no_structure = set() if are_classes else {0, *background}
    named = stated_labels(os.path.join(root, "dataset.json"))
    source = "dataset.json"
    if not named:
        values = sorted(set(labels) if are_classes else {value for label in labels for value in _values(label)})
        known = {value: name for name, value in default.items()}
        all_known = known.keys() | no_structure >= set(values)
        named = {known[value] if all_known and value in known else f"label_{value}": value for value in values}
        source = f"{len(labels)} labels"
    structures = {name: value for name, value in named.items() if value not in no_structure}
    logger.info(f"{root}: labels {structures} (from {source})")
    return structures


def label_values(dataset_dir: str, default: Sequence[int], cohort: Any = None) -> list[int]:
    """The values of `labels_of` alone, without names."""
    return list(labels_of(dataset_dir, {f"label_{value}": value for value in default}, cohort).values())


def _found_labels(root: str) -> list[str | int]:
    """Paths of label maps, or classes, of the labelled volumes."""
    file = os.path.join(root, "dataset.json")
    if os.path.isfile(file) and not has_no_lists(file):
        return listed_labels(file)
    if not os.path.isdir(root):
        return []
    return [os.path.join(root, volume.label) for volume in find_layout(root)[0] if volume.label is not None]


def _values(path: str) -> list[int]:
    return [int(value) for value in load_volume(path, is_label=True).as_tensor().unique().tolist()]
