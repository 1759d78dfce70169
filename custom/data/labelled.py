# SPDX-License-Identifier: Apache-2.0
"""The data of a supervised run: labelled volumes for training, validation and test, split by subject."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from .datalist import find_volumes, group_by_subject, read_dataset_json
from .pretraining import make_default_cohort

logger = logging.getLogger(__name__)

Items = list[dict[str, Any]]
PARTS = ("training", "validation", "test")


def labelled_data(
    dataset_dir: str,
    cohort: Any = None,
    validation: int | float = 0.2,
    test: int | float = 0.2,
    seed: int = 0,
    other_files: Sequence[str] = (),
) -> dict[str, Items]:
    """
    Labelled volumes for training, validation and test; no subject is in two parts.

    A `dataset.json` in Decathlon layout may hold the lists "training", "validation" and "test"; those with labels are
    used as they are. A list "validation" or "test" that is missing, empty or without any label (Decathlon's own
    "test") is cut from "training" by subject; one seed gives one split. Without dataset.json the folders `images` and
    `labels` count as "training" (see `find_volumes`).

    Args:
        dataset_dir: the folder.
        cohort: a phantom cohort with `root` and `make()`; made first if dataset_dir is its root.
        validation, test: number (int) or share (float) of the subjects of "training" that are cut off; a share takes
            one subject at least, 0 takes none.
        seed: of the split.
        other_files: further keys of the entries of dataset.json that are paths below dataset_dir, such as lung masks.

    Returns:
        Items {"image": path, "label": path or class (int), "subject": name} and `other_files` where an entry has them.

    Raises:
        FileNotFoundError, NotADirectoryError: no such folder.
        ValueError: volumes without label or with one that does not exist (all of them named), a subject in two lists,
            no subject left for training, a malformed dataset.json.
    """
    make_default_cohort(dataset_dir, cohort)
    found = _listed_parts(dataset_dir, other_files)
    _refuse_unlabelled(found, dataset_dir)
    _refuse_shared_subjects(found, dataset_dir)
    missing = {"test": test, "validation": validation}
    found |= _cut(found["training"], {part: size for part, size in missing.items() if not found[part]}, seed)
    counts = ", ".join(f"{len(found[part])} for {part}" for part in PARTS)
    logger.info(f"{dataset_dir}: {counts}")
    return {part: found[part] for part in PARTS}


def _listed_parts(dataset_dir: str, other_files: Sequence[str]) -> dict[str, Items]:
    """The lists of dataset.json or, without one, the volumes of the folder."""
    file = os.path.join(os.path.expanduser(os.fspath(dataset_dir)), "dataset.json")
    if not os.path.isfile(file):
        return {"training": find_volumes(dataset_dir, min_subjects=1), "validation": [], "test": []}
    return read_dataset_json(file, PARTS, other_files)


def _refuse_unlabelled(found: dict[str, Items], source: str) -> None:
    unlabelled = [f"{part}: {item['image']}" for part, items in found.items() for item in items if "label" not in item]
    if unlabelled:
        listed = "\n  ".join(unlabelled)
        total = sum(len(items) for items in found.values())
        raise ValueError(
            f"{source}: {len(unlabelled)} of {total} volumes have no label, expected one each:\n  {listed}"
        )


def _refuse_shared_subjects(found: dict[str, Items], source: str) -> None:
    parts_of: dict[str, list[str]] = {}
    for part, items in found.items():
        for subject in group_by_subject(items):
            parts_of.setdefault(subject, []).append(part)
    shared = [f"{subject} in {' and '.join(parts)}" for subject, parts in parts_of.items() if len(parts) > 1]
    if shared:
        listed = "\n  ".join(shared)
        raise ValueError(f"{source}: {len(shared)} subjects are in more than one list, expected one:\n  {listed}")


def _cut(training: Items, wanted: dict[str, int | float], seed: int) -> dict[str, Items]:
    """Training and the wanted parts, each in the order of the list that they are cut from."""
    groups = group_by_subject(training)
    subjects = list(groups)
    counts = {part: _count(part, size, len(subjects)) for part, size in wanted.items()}
    if sum(counts.values()) >= len(subjects):
        raise ValueError(
            f"{counts} of {len(subjects)} subjects: none is left for training (expected more subjects or smaller parts)"
        )
    order = [subjects[place] for place in np.random.default_rng(seed).permutation(len(subjects))]
    chosen = {}
    for part, count in counts.items():
        chosen[part], order = order[:count], order[count:]
    chosen["training"] = order
    places = {part: sorted(place for subject in names for place in groups[subject]) for part, names in chosen.items()}
    return {part: [training[place] for place in sorted(members)] for part, members in places.items()}


def _count(part: str, size: int | float, subjects: int) -> int:
    is_share = isinstance(size, float)
    if size < 0 or (is_share and size >= 1):
        raise ValueError(f"{part} is {size}, expected a number of subjects or a share from 0 to below 1")
    return max(round(size * subjects), 1) if is_share and size > 0 else int(size)
