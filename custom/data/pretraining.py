# SPDX-License-Identifier: Apache-2.0
"""The data of a pre-training run: a folder of the user, or a phantom cohort."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..volumes import files_of, image_name, paths_of
from .datalist import find_volumes, fixed_pairs, path_of, split_volumes
from .listing import list_file
from .output_names import output_names

logger = logging.getLogger(__name__)


def pretraining_data(
    dataset_dir: str,
    cohort: Any = None,
    validation: int | float = 0.2,
    validation_pairs: int = 6,
    seed: int = 0,
    channels: int = 1,
) -> dict[str, list[dict[str, Any]]]:
    """Training volumes without labels and fixed pairs of held-out subjects.

    Args:
        dataset_dir: folder of volumes (see `find_volumes`).
        cohort: a phantom cohort with `root` and `make()`, which is made first if dataset_dir is its root; or None.
        validation: number (int) or share (float) of the subjects for validation; see `split_volumes`.
        validation_pairs: number of validation pairs.
        seed: seed of the split and of the pairs.
        channels: number of channels of an image; see `find_volumes`.

    Returns:
        {"training": items {"image", "subject"}, "validation": pairs (see `fixed_pairs`)}.
    """
    dataset_dir = path_of(dataset_dir)
    make_default_cohort(dataset_dir, cohort)
    split = split_volumes(find_volumes(dataset_dir, channels=channels), validation, seed)
    training = [{name: item[name] for name in ("image", "subject")} for item in split["training"]]
    return {"training": training, "validation": fixed_pairs(split["validation"], validation_pairs, seed)}


def inference_data(
    dataset_dir: str,
    cohort: Any = None,
    other_files: Sequence[str] = (),
    output_dir: str | None = None,
    channels: int = 1,
) -> list[dict[str, Any]]:
    """Items {"image", "subject", "output"} of a folder or list of volumes, or of one volume file.

    "output" is the name of the volume's output files, see `output_names`.

    Args:
        dataset_dir: folder or CSV file (see `find_volumes`), or the file of a volume.
        cohort: see `pretraining_data`.
        other_files: further keys of the entries of dataset.json that hold paths, such as lung masks.
        output_dir: where the output goes. If it lies below `dataset_dir`, the volumes in it are left out, except those
            that dataset.json or a table lists.
        channels: see `pretraining_data`.

    Raises:
        ValueError: two volumes have the same output name; see also `find_volumes`.
    """
    dataset_dir = path_of(dataset_dir)
    if os.path.isfile(dataset_dir) and not list_file(dataset_dir):
        (name,) = output_names([dataset_dir], dataset_dir)
        return [{"image": dataset_dir, "subject": os.path.basename(dataset_dir), "output": name}]
    make_default_cohort(dataset_dir, cohort)
    items: list[dict[str, Any]] = find_volumes(dataset_dir, 1, channels, other_files)
    file = list_file(dataset_dir)
    if file is None:
        items = _outside_of(output_dir, items, dataset_dir)
    names = output_names([item["image"] for item in items], os.path.dirname(file) if file else dataset_dir)
    kept = ("image", "subject", *other_files)
    return [
        {key: item[key] for key in kept if key in item} | {"output": name}
        for item, name in zip(items, names, strict=True)
    ]


def _outside_of(output_dir: str | None, items: list[dict[str, Any]], dataset_dir: str) -> list[dict[str, Any]]:
    """The items whose image does not lie in `output_dir`, if that is a folder below `dataset_dir`."""
    if output_dir is None or not _lies_below(output_dir, dataset_dir):
        return items
    outside = [item for item in items if not _lies_below(image_name(item["image"]), output_dir)]
    if len(outside) < len(items):
        logger.warning(f"{len(items) - len(outside)} volumes in output_dir {output_dir} are left out")
    if not outside:
        raise ValueError(f"dataset_dir {dataset_dir} holds no volume outside of output_dir {output_dir}")
    return outside


def _lies_below(path: str, folder: str) -> bool:
    path, folder = (Path(os.path.expanduser(entry)).resolve() for entry in (path, folder))
    return folder in path.parents


def make_default_cohort(dataset_dir: str, cohort: Any) -> None:
    """Make the cohort if `dataset_dir` is its root. With another folder, or without a cohort (None), do nothing."""
    if is_default_cohort(dataset_dir, cohort):
        cohort.make()


def is_default_cohort(dataset_dir: str, cohort: Any) -> bool:
    """Whether `dataset_dir` is the root of the cohort; False without a cohort (None)."""
    return cohort is not None and os.path.abspath(dataset_dir) == os.path.abspath(cohort.root)


def fingerprint(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The number of volumes and the SHA-256 of their file names and sizes: they identify a list without naming it."""
    digest = hashlib.sha256()
    for item in items:
        for path in paths_of(item["image"]):
            size = sum(map(os.path.getsize, files_of(path) or [path]))
            digest.update(f"{os.path.basename(path)} {size}\n".encode())
    return {"volumes": len(items), "sha256_of_names_and_sizes": digest.hexdigest()}
