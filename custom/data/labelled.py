# SPDX-License-Identifier: Apache-2.0
"""The data of a supervised run: labelled volumes for training, validation and test, split by subject."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..volumes import image_name
from .class_folders import with_class_of_folder
from .datalist import LOOKED_FOR, find_parts, group_by_subject, path_of
from .dataset_json import check_count
from .listing import PARTS, list_file, read_lists, unlabelled_lists
from .pretraining import make_default_cohort

logger = logging.getLogger(__name__)

Items = list[dict[str, Any]]


def labelled_data(
    dataset_dir: str,
    cohort: Any = None,
    validation: int | float = 0.2,
    test: int | float = 0.2,
    seed: int = 0,
    other_files: Sequence[str] = (),
    required_classes: Mapping[str, Mapping[str, int]] | None = None,
    classes: Mapping[str, int] | None = None,
    channels: int = 1,
    test_alone: bool = False,
) -> dict[str, Items]:
    """
    Labelled volumes for training, validation and test; no subject is in two parts.

    A `dataset.json` of the Medical Segmentation Decathlon or a table `dataset.csv` may hold the lists "training",
    "validation" and "test". A list with labels is used unchanged. A list "validation" or "test" that is missing or
    empty, and a "validation" without any label, is replaced: its subjects are taken from "training", drawn with the
    seed. A "test" without any label (such as that of the Decathlon) stays the test of the data set: nothing is taken
    from "training" for another one, and the part is empty. Without lists, the folders are the parts (see `find_parts`);
    of a classification each class is a folder (see `with_class_of_folder`).

    Args:
        dataset_dir: the folder, or a CSV file.
        cohort: a phantom cohort with `root` and `make()`, which is made first if dataset_dir is its root; or None.
        validation: number (int) or share (float) of the subjects of "training" for validation. A share takes at least
            one subject, 0 takes none.
        test: the same for the test.
        seed: seed of the split. Of a classification each part has about the same share of every class; a subject counts
            for the class of its first volume.
        other_files: further keys of the entries of dataset.json that hold paths, such as lung masks.
        required_classes: part -> class -> value in the data set, of the classes that the part must have cases of; the
            AUC does not exist without them.
        classes: class -> value in the data set, for a classification; None for label maps.
        channels: number of channels of an image; see `find_volumes`.
        test_alone: whether the test is all that is needed: a data set with test volumes then needs no others.

    Returns:
        part -> items {"image": path or paths of channels, "label": path or class (int), "subject": name} and
        `other_files` where an entry has them.

    Raises:
        FileNotFoundError: the folder does not exist.
        NotADirectoryError: the path is a file.
        ValueError: volumes have no label or one that does not exist (the message lists them), a subject is in two
            lists, no subject is left for training, a required class has no cases, or dataset.json is malformed.
    """
    dataset_dir = path_of(dataset_dir)
    make_default_cohort(dataset_dir, cohort)
    parts, unlabelled = _found_parts(dataset_dir, other_files, channels, classes)
    _refuse_unlabelled(parts, dataset_dir)
    _refuse_shared_subjects(parts, dataset_dir)
    nothing_to_split = test_alone and parts["test"]
    if not parts["training"] and not nothing_to_split:
        raise ValueError(f"dataset_dir {dataset_dir!r} holds 0 volumes for training, expected {LOOKED_FOR}")
    sizes = {"test": test, "validation": validation}
    if "test" in unlabelled:
        del sizes["test"]
        logger.warning(f"{dataset_dir}: the test volumes have no labels: there is no test part to evaluate")
    if not nothing_to_split:
        sizes = {part: size for part, size in sizes.items() if not parts[part]}
        parts |= _split(parts["training"], sizes, seed, dataset_dir)
    for part, required in (required_classes or {}).items():
        _refuse_absent_classes(parts[part], part, required)
    counts = ", ".join(f"{len(parts[part])} for {part}" for part in PARTS)
    logger.info(f"{dataset_dir}: {counts}")
    return {part: parts[part] for part in PARTS}


def _found_parts(
    dataset_dir: str, other_files: Sequence[str], channels: int, classes: Mapping[str, int] | None
) -> tuple[dict[str, Items], list[str]]:
    """The lists of a file or, without lists, the volumes of the folders; names of parts without any label."""
    if file := list_file(dataset_dir):
        parts = read_lists(file, PARTS, other_files, channels, classes)
        described = ", ".join(f"{len(items)} in {name}" for name, items in parts.items())
        subjects = len(group_by_subject([item for items in parts.values() for item in items]))
        logger.info(f"layout {os.path.basename(file)} ({file}): {described}, {subjects} subjects")
        return parts, unlabelled_lists(file, PARTS[1:], classes)
    parts = {"validation": [], **find_parts(dataset_dir, channels, labels_needed=classes is None)}
    if classes is not None:
        return {name: with_class_of_folder(items, dataset_dir, classes) for name, items in parts.items()}, []
    if os.path.isfile(file := os.path.join(dataset_dir, "dataset.json")):
        check_count(file, len(group_by_subject([item for item in parts["training"] if "label" in item])))
    has_no_label = bool(parts["test"]) and not any("label" in item for item in parts["test"])
    return (parts | {"test": []}, ["test"]) if has_no_label else (parts, [])


def _refuse_unlabelled(parts: dict[str, Items], source: str) -> None:
    unlabelled = [
        f"{part}: {image_name(item['image'])}" for part, items in parts.items() for item in items if "label" not in item
    ]
    if unlabelled:
        listed = "\n  ".join(unlabelled)
        total = sum(len(items) for items in parts.values())
        raise ValueError(
            f"{source}: {len(unlabelled)} of {total} volumes have no label, expected one each:\n  {listed}"
        )


def _refuse_shared_subjects(parts: dict[str, Items], source: str) -> None:
    parts_of: dict[str, list[str]] = {}
    for part, items in parts.items():
        for subject in group_by_subject(items):
            parts_of.setdefault(subject, []).append(part)
    shared = [f"{subject} in {' and '.join(names)}" for subject, names in parts_of.items() if len(names) > 1]
    if shared:
        listed = "\n  ".join(shared)
        raise ValueError(f"{source}: {len(shared)} subjects are in more than one list, expected one:\n  {listed}")


def _refuse_absent_classes(items: Items, part: str, classes: Mapping[str, int]) -> None:
    counted = Counter(item["label"] for item in items)
    cases = {name: counted[value] for name, value in classes.items()}
    absent = [name for name, count in cases.items() if count == 0]
    if absent:
        raise ValueError(
            f"{part}: {len(items)} cases, {cases}; the AUC needs cases of every class, found none of "
            f"{', '.join(absent)}"
        )


def _split(training: Items, sizes: dict[str, int | float], seed: int, source: str) -> dict[str, Items]:
    """Parts of these sizes and the rest as training, each in the order of the list; classes keep their shares."""
    groups = group_by_subject(training)
    subjects = list(groups)
    counts = {part: _count(part, size, len(subjects)) for part, size in sizes.items()}
    if sum(counts.values()) >= len(subjects):
        raise ValueError(
            f"{source}: {counts} of {len(subjects)} subjects: none is left for training (expected more subjects or "
            "smaller parts)"
        )
    order = [subjects[index] for index in np.random.default_rng(seed).permutation(len(subjects))]
    if all(isinstance(item["label"], int) for item in training):
        order = evenly_mixed(order, {name: training[groups[name][0]]["label"] for name in subjects})
    chosen = {}
    for part, count in counts.items():
        chosen[part], order = order[:count], order[count:]
    chosen["training"] = order
    indices = {part: sorted(index for subject in names for index in groups[subject]) for part, names in chosen.items()}
    return {part: [training[index] for index in members] for part, members in indices.items()}


def evenly_mixed(names: Sequence[str], classes: Mapping[str, int], start: float = 0.0) -> list[str]:
    """The names in an order any stretch of which has about the shares of the classes in the whole.

    Args:
        names: in the order that names of one class keep.
        classes: name -> class.
        start: place of the first name of each class, in steps between its names; 0 puts one of every class in front.
    """
    members: dict[int, list[str]] = {}
    for name in names:
        members.setdefault(classes[name], []).append(name)
    place = {name: (index + start) / len(group) for group in members.values() for index, name in enumerate(group)}
    return sorted(names, key=place.__getitem__)


def _count(part: str, size: int | float, subjects: int) -> int:
    is_share = isinstance(size, float)
    if size < 0 or (is_share and size >= 1):
        raise ValueError(f"{part} is {size}, expected a number of subjects or a share from 0 to below 1")
    return max(round(size * subjects), 1) if is_share and size > 0 else int(size)
