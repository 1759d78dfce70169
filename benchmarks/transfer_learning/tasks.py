# SPDX-License-Identifier: Apache-2.0
"""The transfer tasks: where the volumes are, which are for what, and their copies at the working resolution."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.transforms import LoadImage, Orientation
from torch.nn import functional as F
from tqdm import tqdm

BENCHMARKS = Path(__file__).resolve().parents[1]
ROOT = BENCHMARKS.parent


def read_task(name: str) -> dict[str, Any]:
    """A task file, or benchmarks/tasks/NAME.json: source, labels, split and recipe."""
    path = Path(name) if name.endswith(".json") else BENCHMARKS / "tasks" / f"{name}.json"
    if not path.is_file():
        known = sorted(entry.stem for entry in (BENCHMARKS / "tasks").glob("*.json"))
        raise ValueError(f"task {name!r} is not known, expected one of {known} or a file of that kind")
    return json.loads(path.read_text())


def prepare_task(task: dict[str, Any], data: Path, work: Path) -> Path:
    """Copies of a task's volumes and label maps, RAS, `reduce` times coarser; made once, file by file.

    A coarse voxel is the mean of a cube of fine ones, its label the one that fills most of the cube. Labels are merged
    where the task says so and cleared where it does not name them.

    Args:
        data: folder with the task's `source`, which holds images/ and labels/. work: where the copies go.

    Returns:
        the folder with images/ and labels/.

    Raises:
        FileNotFoundError: a volume of the split is missing; names file and page.
    """
    target = work / task["name"] / "volumes"
    orient = Orientation(axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))
    values = np.array([0, *task["labels"].values()])
    subjects = [subject for part in task["split"].values() for subject in part]
    for subject in tqdm(subjects, desc=f"preparing {task['name']}", disable=None):
        for folder in ("images", "labels"):
            source, copy = (place / folder / f"{subject}.nii.gz" for place in (data / task["source"], target))
            if copy.is_file():
                continue
            if not source.is_file():
                raise FileNotFoundError(f"{source} does not exist; the volumes of {task['name']} are at {task['page']}")
            volume = orient(LoadImage(ensure_channel_first=True)(source))
            affine = np.asarray(volume.affine)
            if folder == "images":
                array = reduced(volume.as_tensor(), task["reduce"])[0].numpy()
            else:
                label = merged(volume.as_tensor().round().long(), task)
                occupancy = torch.cat([(label == value).float() for value in values.tolist()])
                array = values[reduced(occupancy, task["reduce"]).argmax(0).numpy()].astype(np.int16)
            save(array, coarse_affine(affine, task["reduce"]), copy)
    return target


def reduced(volume: torch.Tensor, factor: int) -> torch.Tensor:
    """Means over cubes of `factor` voxels a side of (C, *spatial), zero beyond the far faces."""
    missing = [(-side) % factor for side in volume.shape[:0:-1]]
    padding = [end for side in missing for end in (0, side)]
    return F.avg_pool3d(F.pad(volume.float()[None], padding), factor)[0]


def merged(label: torch.Tensor, task: dict[str, Any]) -> torch.Tensor:
    """Labels of the task: ids above `even_and_odd_above` become the two that follow it, others that it lacks 0."""
    above = task.get("even_and_odd_above")
    if above is not None:
        label = torch.where(label > above, above + 1 + label % 2, label)
    named = torch.tensor(list(task["labels"].values()))
    return torch.where(torch.isin(label, named), label, 0)


def coarse_affine(affine: np.ndarray, factor: int) -> np.ndarray:
    """The affine of a grid of `factor` times larger voxels whose first outer faces are those of the fine grid."""
    to_fine = np.diag([factor, factor, factor, 1.0])
    to_fine[:3, 3] = (factor - 1) / 2
    return affine @ to_fine


def save(array: np.ndarray, affine: np.ndarray, path: Path) -> None:
    """Writes a NIfTI under another name first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    nibabel.save(nibabel.Nifti1Image(array, affine), temporary)
    os.replace(temporary, path)


def items(task: dict[str, Any], volumes: Path, part: str, subjects: list[str] | None = None) -> list[dict[str, str]]:
    """{"image", "label", "subject"} of a part of the split, or of some of its subjects."""
    chosen = task["split"][part] if subjects is None else subjects
    return [
        {
            "image": str(volumes / "images" / f"{subject}.nii.gz"),
            "label": str(volumes / "labels" / f"{subject}.nii.gz"),
            "subject": subject,
        }
        for subject in chosen
    ]


def labelled_subjects(task: dict[str, Any], seed: int) -> list[str]:
    """The subjects whose labels a seed may train with, drawn among those of pre-training."""
    order = np.random.default_rng(seed).permutation(len(task["split"]["pretraining"]))
    return sorted(task["split"]["pretraining"][place] for place in order[: task["labelled"]])
