# SPDX-License-Identifier: Apache-2.0
"""The structures, or classes, of a labelled data set: from its dataset.json, or from the label maps."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..volumes import VolumeError, load_volume
from .class_folders import class_folders
from .datalist import path_of
from .dataset_csv import class_names
from .dataset_json import UnsupportedLabels, stated_labels
from .layout import find_layout
from .listing import list_file, listed_labels
from .names import natural_key
from .pretraining import is_default_cohort

logger = logging.getLogger(__name__)
MANY = 4  # label maps, from which on a value that occurs in one of them is unusual
MOST_STRUCTURES = 255
LARGEST = 2**31 - 1


def labels_of(
    dataset_dir: str,
    default: Mapping[str, int],
    cohort: Any = None,
    background: Sequence[int] = (),
    of_volumes: bool = False,
) -> dict[str, int]:
    """
    The names and values of the labels of a data set.

    The entry "labels" of dataset.json has them. Without it, they are the values that occur in the label maps, which are
    all read, or the classes that dataset.json lists. Such values have the names of `default` if it names all of them,
    otherwise label_VALUE. The log lists them, and warns of a value that a single one of many label maps has.

    Classes of volumes may have names instead, in a table or as folders. They are those of `default` if it has all of
    them, otherwise 0, 1, ... in natural order.

    Args:
        dataset_dir: the folder, or a CSV file.
        default: structure or class -> value of the cohort, and of a data set without any label.
        cohort: see `custom.data.labelled_data`; its labels are those of `default`.
        background: values of label maps that are no structure, in addition to 0.
        of_volumes: whether the labels are classes of volumes, and not those of label maps.

    Returns:
        Structure or class -> value, by value or in the order of dataset.json or of `default`.

    Raises:
        ValueError: dataset.json is malformed, its labels are not one whole number each, all volumes have one class, or
            there is no structure but the background.
        VolumeError: a label map cannot be read, or its values are not those of structures.
    """
    root, no_structure = path_of(dataset_dir), {0, *background}
    if is_default_cohort(root, cohort):
        return dict(default)
    if of_volumes and (names := _class_names(root)):
        known = set(names) <= default.keys()
        named = dict(default) if known else {name: number for number, name in enumerate(names)}
        logger.info(f"{root}: labels {named} (from the names of the classes)")
        return named
    labels = _found_labels(root)
    if not labels:  # or no data set, of which `labelled_data` says what is missing
        return dict(default)
    classes = [label for label in labels if isinstance(label, int)]
    maps = [label for label in labels if isinstance(label, str)]
    named, source = _named(root, classes, maps, default, no_structure)
    if maps:
        named = {name: value for name, value in named.items() if value not in no_structure}
    if not named:
        raise ValueError(
            f"{root}: only the background {sorted(no_structure)} in {source}, expected one structure or more"
        )
    logger.info(f"{root}: labels {named} (from {source})")
    return named


def _named(
    root: str, classes: Sequence[int], maps: Sequence[str], default: Mapping[str, int], no_structure: set[int]
) -> tuple[dict[str, int], str]:
    """Structure or class -> value, and where they come from: dataset.json, else the classes, else the label maps."""
    if named := stated_labels(os.path.join(root, "dataset.json")):
        return named, "dataset.json"
    if named := _named_classes(classes, default, root):
        return named, f"the classes of {len(classes)} volumes"
    return _named_values(maps, default, no_structure, root), f"{len(maps)} label maps"


def label_values(dataset_dir: str, default: Sequence[int], cohort: Any = None) -> list[int]:
    """The values of `labels_of` alone, without names.

    Pre-training measures with them and needs none: if dataset.json has regions or the label "ignore", the values are
    those that occur in the label maps, with a warning.
    """
    named = {f"label_{value}": value for value in default}
    try:
        return list(labels_of(dataset_dir, named, cohort).values())
    except UnsupportedLabels as error:
        logger.warning(f"{error}. Pre-training measures with the values that occur in the label maps")
        root = path_of(dataset_dir)
        maps = [label for label in _found_labels(root) if isinstance(label, str)]
        return sorted(_named_values(maps, {}, {0}, root).values())


def _found_labels(root: str) -> list[str | int]:
    """Paths of label maps that exist, or classes, of the labelled volumes."""
    if file := list_file(root):
        return [label for label in listed_labels(file) if isinstance(label, int) or os.path.exists(label)]
    if not os.path.isdir(root):
        return []
    labels = dict.fromkeys(label for volume in find_layout(root)[0] for label in volume.labels)
    return [os.path.join(root, label) for label in labels]


def _class_names(root: str) -> list[str]:
    """The names that the classes of volumes have in a table or as folders, in natural order; [] if they have none."""
    if file := list_file(root):
        return sorted(class_names(file), key=natural_key) if file.lower().endswith(".csv") else []
    return class_folders([volume.image for volume in find_layout(root)[0]], os.curdir) if os.path.isdir(root) else []


def _named_classes(classes: Sequence[int], default: Mapping[str, int], root: str) -> dict[str, int]:
    """All of `default` if it names the classes; otherwise those that occur."""
    values = sorted(set(classes))
    if set(default.values()) >= set(values):
        return dict(default) if values else {}
    if len(values) < 2:
        raise ValueError(f"{root}: all {len(classes)} volumes have the class {values[0]}, expected two classes or more")
    return {f"label_{value}": value for value in values}


def _named_values(maps: Sequence[str], default: Mapping[str, int], no_structure: set[int], root: str) -> dict[str, int]:
    """The structures that occur in label maps, by the names of `default` if it has all of them."""
    count = Counter(value for path in maps for value in _values(path, no_structure))
    known = {value: name for name, value in default.items()}
    named = {known[value] if known.keys() >= count.keys() else f"label_{value}": value for value in sorted(count)}
    rare = {name: value for name, value in named.items() if count[value] == 1}
    if rare and len(maps) >= MANY:
        logger.warning(
            f"{root}: only one of {len(maps)} label maps has {rare}; if this is a mistake, name the structures with "
            "--labels"
        )
    return named


def _values(path: str, no_structure: set[int]) -> list[int]:
    """The values of the structures that occur in a label map."""
    values = sorted(set(load_volume(path, is_label=True).as_tensor().unique().tolist()) - no_structure)
    if len(values) > MOST_STRUCTURES or not all(0 <= value <= LARGEST for value in values):
        raise VolumeError(
            f"{path}: {len(values)} label values from {values[0]} to {values[-1]}, expected a label map of at most "
            f"{MOST_STRUCTURES} structures with values from 0 to {LARGEST} (or --labels, which names them)"
        )
    return values
