# SPDX-License-Identifier: Apache-2.0
"""The transfer tasks: which volumes are for what, and copies of real ones at the working resolution.

A task file names the downstream bundle and its recipe (overrides of the configs). With a `source` it lists real
volumes, their labels and the committed split; without, the bundle's own default data are the task: phantoms.
"""

from __future__ import annotations

import json
import os
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.apps import DecathlonDataset
from monai.bundle import ConfigWorkflow
from monai.transforms import LoadImage, Orientation
from torch.nn import functional as F
from tqdm import tqdm

BENCHMARKS = Path(__file__).resolve().parents[1]
ROOT = BENCHMARKS.parent
BUNDLES = ROOT / "bundles"
PRETRAINING = BUNDLES / "gvsl_pretrain" / "configs"

Items = list[dict[str, Any]]


def workflow(bundle: str, files: list[str], overrides: dict[str, Any], kind: str = "train") -> ConfigWorkflow:
    """An initialised workflow of a bundle, for training or, with the kind "infer", for inference. The overrides stay as
    they are, which MONAI rewrites."""
    configs = BUNDLES / bundle / "configs"
    built = ConfigWorkflow(
        [str(configs / name) for name in files],
        str(configs / "metadata.json"),
        logging_file=False,
        workflow_type=kind,
        bundle_root=str(BUNDLES / bundle),
        **deepcopy(overrides),
    )
    built.initialize()
    return built


def pretext_overlays() -> dict[str, dict[str, Any]]:
    """Name and content of the overlays of gvsl_pretrain that change its pretext task."""
    names = sorted(path.stem for path in (PRETRAINING / "pretext").glob("*.json"))
    return {name: read_overlay(f"pretext/{name}.json") for name in names}


def read_overlay(name: str) -> dict[str, Any]:
    """The content of a file of gvsl_pretrain's configs."""
    return json.loads((PRETRAINING / name).read_text(encoding="utf-8"))


def read_task(name: str) -> dict[str, Any]:
    """A task file, or benchmarks/tasks/NAME.json: source, labels, split and recipe."""
    path = Path(name) if name.endswith(".json") else BENCHMARKS / "tasks" / f"{name}.json"
    if not path.is_file():
        known = sorted(entry.stem for entry in (BENCHMARKS / "tasks").glob("*.json"))
        raise ValueError(f"task {name!r} is not known, expected one of {known} or a file of that kind")
    return json.loads(path.read_text(encoding="utf-8"))


def prepare_task(task: dict[str, Any], data: Path, work: Path) -> dict[str, Items]:
    """The items of each part of the split: {"image", "label", "subject"}; "pretraining" may be used without labels.
    Without a downstream bundle there are none.

    Raises:
        FileNotFoundError: a volume of the split is missing; names file and page.
    """
    if "bundle" not in task:
        return {}  # pre-trains on gvsl_pretrain's own data
    if "source" not in task:
        chosen = {"output_dir": str(work / task["name"] / "cohort"), **task["recipe"]["downstream"]}
        parts = workflow(task["bundle"], ["train.json"], chosen).parser.get_parsed_content("data")
        return {"pretraining": parts["training"], "validation": parts["validation"], "test": parts["test"]}
    volumes = copy_volumes(task, data, work)
    return {
        part: [
            {
                "image": str(volumes / "images" / f"{subject}.nii.gz"),
                "label": str(volumes / "labels" / f"{subject}.nii.gz"),
                "subject": subject,
            }
            for subject in subjects
        ]
        for part, subjects in task["split"].items()
    }


def copy_volumes(task: dict[str, Any], data: Path, work: Path) -> Path:
    """Copies of a task's volumes and label maps, RAS, `reduce` times coarser; made once, file by file.

    A coarse voxel is the mean of a cube of fine ones, its label the one that fills most of the cube. Labels are merged
    where the task says so and cleared where it does not name them.

    Args:
        data: folder with the task's `source`, which holds images/ and labels/, or what the task's `files` say, with {}
            for the subject. work: where the copies go.

    Returns:
        the folder with images/ and labels/.
    """
    target = work / task["name"] / "volumes"
    orient = Orientation(axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))
    values = np.array([0, *task["labels"].values()])
    files = task.get("files", {folder: folder + "/{}.nii.gz" for folder in ("images", "labels")})
    subjects = [subject for part in task["split"].values() for subject in part]
    for subject in tqdm(subjects, desc=f"preparing {task['name']}", disable=None):
        for folder in ("images", "labels"):
            copy = target / folder / f"{subject}.nii.gz"
            source = data / task["source"] / files[folder].format(subject)
            if copy.is_file():
                continue
            if not source.is_file():
                raise FileNotFoundError(
                    f"{source} does not exist; `transfer.py fetch` gets those of {task['name']}, or {task['page']}"
                )
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


def fetch_task(task: dict[str, Any], data: Path) -> Path:
    """Downloads a task's public volumes to data/SOURCE/images and labels, through MONAI; what is there is kept.

    Raises:
        ValueError: the volumes are behind a registration, or synthetic; names the page and the expected files.
    """
    if "source" not in task:
        raise ValueError(f"{task['name']} is synthetic: `run` makes it")
    target = data / task["source"]
    if "decathlon" not in task:
        raise ValueError(
            f"{task['name']} cannot be fetched by a command: get it from {task['page']} and put volumes at "
            f"{target / 'images' / 'ID.nii.gz'}, labels at {target / 'labels' / 'ID.nii.gz'}, ID as in the task file"
        )
    data.mkdir(parents=True, exist_ok=True)
    DecathlonDataset(data, task["decathlon"], "training", download=True, cache_rate=0.0)
    for folder, unpacked in (("images", "imagesTr"), ("labels", "labelsTr")):
        (target / folder).mkdir(parents=True, exist_ok=True)
        for subject in (subject for part in task["split"].values() for subject in part):
            name = f"{subject}.nii.gz"
            if not (target / folder / name).is_file():
                shutil.copyfile(data / task["decathlon"] / unpacked / name, target / folder / name)
    return target


def training_name(protocol: str, method: str, rate: float, seed: int) -> str:
    """The folder of a training in a task's work, and its cell."""
    return f"{protocol}_{method}_rate{rate:g}_seed{seed}"


def reduced(volume: torch.Tensor, factor: int) -> torch.Tensor:
    """Means over cubes of `factor` voxels a side of (C, *spatial), zero beyond the far faces."""
    missing = [(-side) % factor for side in volume.shape[:0:-1]]
    padding = [end for side in missing for end in (0, side)]
    return F.avg_pool3d(F.pad(volume.float()[None], padding), factor)[0]


def merged(label: torch.Tensor, task: dict[str, Any]) -> torch.Tensor:
    """Labels of the task: ids above `even_and_odd_above` become the two that follow it, those of `merge` its keys, and
    others that the task lacks 0."""
    above = task.get("even_and_odd_above")
    if above is not None:
        label = torch.where(label > above, above + 1 + label % 2, label)
    for value, parts in task.get("merge", {}).items():
        label = torch.where(torch.isin(label, torch.tensor(parts)), int(value), label)
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


def labelled_items(task: dict[str, Any], parts: dict[str, Items], seed: int) -> Items:
    """The items whose labels a seed may train with, drawn among those of pre-training, equally many of each class.

    Raises:
        ValueError: `labelled` does not divide by the number of classes.
    """
    classes = sorted({item["label"] for item in parts["pretraining"] if not isinstance(item["label"], str)})
    groups = [[item for item in parts["pretraining"] if item["label"] == label] for label in classes]
    groups = groups or [parts["pretraining"]]
    if task["labelled"] % len(groups):
        raise ValueError(f"labelled must divide by the {len(groups)} classes, got {task['labelled']}")
    generator = np.random.default_rng(seed)
    chosen = [
        group[place]
        for group in groups
        for place in generator.permutation(len(group))[: task["labelled"] // len(groups)]
    ]
    return sorted(chosen, key=lambda item: item["subject"])
