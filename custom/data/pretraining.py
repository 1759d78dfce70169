# SPDX-License-Identifier: Apache-2.0
"""The data of a pre-training run: a folder of the user, or a phantom cohort."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any

from ..volumes import files_of
from .datalist import find_volumes, fixed_pairs, read_dataset_json, split_volumes


def pretraining_data(
    dataset_dir: str,
    cohort: Any = None,
    validation: int | float = 0.2,
    validation_pairs: int = 6,
    seed: int = 0,
) -> dict[str, list[dict[str, Any]]]:
    """Training volumes without labels and fixed pairs of held-out subjects.

    Args:
        dataset_dir: folder of volumes (see `find_volumes`).
        cohort: a phantom cohort with `root` and `make()`, which is made first if dataset_dir is its root; or None.
        validation: number (int) or share (float) of the subjects for validation; see `split_volumes`.
        validation_pairs: number of validation pairs.
        seed: seed of the split and of the pairs.

    Returns:
        {"training": items {"image", "subject"}, "validation": pairs (see `fixed_pairs`)}.
    """
    make_default_cohort(dataset_dir, cohort)
    split = split_volumes(find_volumes(dataset_dir), validation, seed)
    training = [{name: item[name] for name in ("image", "subject")} for item in split["training"]]
    return {"training": training, "validation": fixed_pairs(split["validation"], validation_pairs, seed)}


def inference_data(dataset_dir: str, cohort: Any = None, other_files: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Items {"image", "subject"} of a folder of volumes, or of one volume file.

    Args:
        dataset_dir: folder (see `find_volumes`) or file.
        cohort: see `pretraining_data`.
        other_files: further keys of the entries of dataset.json that hold paths, such as lung masks.
    """
    if os.path.isfile(dataset_dir):
        return [{"image": dataset_dir, "subject": os.path.basename(dataset_dir)}]
    make_default_cohort(dataset_dir, cohort)
    items: list[dict[str, Any]] = find_volumes(dataset_dir, min_subjects=1)
    dataset_json = os.path.join(dataset_dir, "dataset.json")
    if other_files and os.path.isfile(dataset_json):
        items = read_dataset_json(dataset_json, other_files=other_files)["training"]
    return [{name: item[name] for name in ("image", "subject", *other_files) if name in item} for item in items]


def make_default_cohort(dataset_dir: str, cohort: Any) -> None:
    """Make the cohort if `dataset_dir` is its root. With another folder, or without a cohort (None), do nothing."""
    if cohort is not None and os.path.abspath(dataset_dir) == os.path.abspath(cohort.root):
        cohort.make()


def fingerprint(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The number of volumes and the SHA-256 of their file names and sizes: they identify a list without naming it."""
    digest = hashlib.sha256()
    for item in items:
        path = str(item["image"])
        size = sum(map(os.path.getsize, files_of(path) or [path]))
        digest.update(f"{os.path.basename(path)} {size}\n".encode())
    return {"volumes": len(items), "sha256_of_names_and_sizes": digest.hexdigest()}
