# SPDX-License-Identifier: Apache-2.0
"""The volumes of a task: which are for what, downloads, and copies of real ones at the working resolution."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.apps import DecathlonDataset
from monai.transforms import Orientation, Spacing, SpatialCrop, generate_spatial_bounding_box
from torch.nn import functional as F
from tqdm import tqdm

from benchmarks.bundles import workflow
from custom.volumes import load_volume, on_grid_of, whole_numbers, write_volume

from .task_file import TaskFile

Items = list[dict[str, Any]]


@dataclass(frozen=True)
class Cohort:
    """What cells are measured on: a downstream bundle and its volumes, items {"image", "label", "subject"}.

    Items for pre-training may have no "label". In a task with absent structures "absent" lists the structures that were
    not annotated in the volume.
    """

    bundle: str | None = None  # None if the task pre-trains alone, on the phantoms of gvsl_pretrain
    labelled: int = 0  # number of labelled training volumes; the largest one of a task that has several
    labels: dict[str, int] | None = None  # value of each structure; None for those of the bundle
    pretraining: Items = field(default_factory=list)  # pre-train without labels; labelled volumes are drawn from these
    validation: Items = field(default_factory=list)  # choose learning rates and recipes
    test: Items = field(default_factory=list)  # are read once for each seed
    probe_voxels: int = 6000  # number of voxels that a probe draws from each labelled volume

    def labelled_items(self, seed: int) -> Items:
        """The labelled training volumes of a seed, equally many of each class.

        Fewer volumes are some of those that are drawn for a larger number. The first one has all structures.

        Raises:
            ValueError: `labelled` does not divide by the number of classes.
        """
        items = [item for item in self.pretraining if "label" in item]
        classes = sorted({item["label"] for item in items if not isinstance(item["label"], str)})
        groups = [[item for item in items if item["label"] == label] for label in classes] or [items]
        if self.labelled % len(groups):
            raise ValueError(f"labelled must divide by the {len(groups)} classes, got {self.labelled}")
        generator, count = np.random.default_rng(seed), self.labelled // len(groups)
        chosen: Items = []
        for group in groups:
            drawn = [group[index] for index in generator.permutation(len(group))]
            first = next((item for item in drawn if not item.get("absent")), None)
            chosen += sorted(drawn, key=lambda item: item is not first)[:count]
        return sorted(chosen, key=lambda item: item["subject"])


def read_cohort(task: TaskFile, data: Path, work: Path) -> Cohort:
    """The cohort of a task; makes phantoms or copies of the volumes where they are missing.

    Args:
        data: folder with the `source` of the task.
        work: folder for phantoms and copies.

    Raises:
        FileNotFoundError: a volume of the split is missing; the error names the file and the page it comes from.
        VolumeError: a volume cannot be used, or image and label map have different grids.
    """
    if task.bundle is None:
        return Cohort()
    if task.source is None:
        chosen = {"output_dir": str(work / task.name / "cohort"), **task.recipe.downstream}
        parts = workflow(task.bundle, ["train.json"], chosen).parser.get_parsed_content("data")
        parts = {"pretraining": parts["training"], "validation": parts["validation"], "test": parts["test"]}
    else:
        folder = copy_volumes(task, data, work)
        parts = {part: [item_of(task, s, folder) for s in subjects] for part, subjects in task.split.items()}
        parts["pretraining"] += [item_of(task, subject, folder) for subject in unlabelled_subjects(task)]
    largest = max(filter(None, task.counts), default=task.labelled)
    return Cohort(task.bundle, largest, task.labels, **parts, probe_voxels=task.probe_voxels)


def item_of(task: TaskFile, subject: str, folder: Path) -> dict[str, Any]:
    """The item of a subject whose copies lie in a folder; without a label if all structures are absent."""
    item = {"image": f"{folder}/images/{subject}.nii.gz", "subject": subject}
    absent = [name for name in task.labels if subject in task.absent.get(name, [])]
    if subject in unlabelled_subjects(task) or len(absent) == len(task.labels):
        return item
    return item | {"label": f"{folder}/labels/{subject}.nii.gz"} | ({"absent": absent} if task.absent else {})


def copy_volumes(task: TaskFile, data: Path, work: Path) -> Path:
    """Copies volumes and label maps, oriented to RAS and `reduce` times coarser, to images/ and labels/ in a folder.

    A coarse voxel is the mean of a cube of fine voxels; its label is the one that fills most of the cube. Before this,
    volumes are cut to the box of the voxels above `body_above`, intensities are clipped and shifted, and volumes of
    `unlabelled` are resampled to 1 mm. Existing copies stay. Arguments and errors are those of `read_cohort`.
    """
    target = work / task.name / "volumes"
    orient = Orientation(axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))
    resample = Spacing(pixdim=(1.0, 1.0, 1.0), mode="bilinear", padding_mode="zeros")
    values = torch.tensor([0, *task.labels.values()])
    for original, folder, subject in tqdm(original_files(task, data), desc=f"preparing {task.name}", disable=None):
        copy = target / folder / f"{subject}.nii.gz"
        if copy.is_file():
            continue
        if not original.is_file():
            fetch = f"with `python -m benchmarks.transfer fetch --tasks {task.name}` or from {task.page}"
            where = f"from {task.unlabelled['page']}" if subject in unlabelled_subjects(task) else fetch
            raise FileNotFoundError(f"{original} does not exist; get it {where}")
        if folder == "images":
            volume = image = load_volume(original)
        else:
            image = load_volume(data / task.source / task.files["images"].format(subject))
            volume = on_grid_of(load_volume(original, is_label=True), image)
        volume = orient(volume)
        if task.body_above is not None:
            start, end = generate_spatial_bounding_box(orient(image), lambda intensity: intensity > task.body_above)
            volume = SpatialCrop(roi_start=start, roi_end=end)(volume)
        if subject in unlabelled_subjects(task):
            volume = resample(volume)
        if folder == "images":
            intensities = volume.as_tensor().clamp(*task.clip) if task.clip else volume.as_tensor()
            array = reduced(intensities + task.shift, task.reduce)[0].numpy()
        else:
            label = merged(volume.as_tensor().long(), task)
            occupancy = torch.cat([(label == value).float() for value in values.tolist()])
            array = whole_numbers(values[reduced(occupancy, task.reduce).argmax(0)][None])
        write_volume(copy, array, coarse_affine(np.asarray(volume.affine), task.reduce))
    return target


def original_files(task: TaskFile, data: Path) -> list[tuple[Path, str, str]]:
    """Each file of a task's volumes, "images" or "labels", and the subject."""
    subjects = [subject for part in task.split.values() for subject in part]
    files = [(data / task.source / task.files[folder].format(s), folder, s) for s in subjects for folder in task.files]
    more = task.unlabelled or {}
    return files + [(data / more["source"] / more["files"].format(s), "images", s) for s in unlabelled_subjects(task)]


def unlabelled_subjects(task: TaskFile) -> list[str]:
    """The subjects of the task's second source, whose volumes have no labels."""
    return task.unlabelled["subjects"] if task.unlabelled else []


def fetch_volumes(task: TaskFile, data: Path) -> Path:
    """Downloads the public volumes of a task to data/SOURCE/images and labels through MONAI; existing files stay.

    Raises:
        ValueError: the volumes need a registration, or are synthetic; the error names the page and the expected files.
    """
    if task.source is None:
        raise ValueError(f"{task.name} is synthetic: `run` makes it")
    target, subjects = data / task.source, [subject for part in task.split.values() for subject in part]
    if task.decathlon is None:
        raise ValueError(
            f"{task.name} cannot be fetched by a command: get it from {task.page} and put volumes at "
            f"{target / 'images' / 'ID.nii.gz'}, labels at {target / 'labels' / 'ID.nii.gz'}, ID as in the task file"
        )
    data.mkdir(parents=True, exist_ok=True)
    DecathlonDataset(data, task.decathlon, "training", download=True, cache_rate=0.0)
    for folder, unpacked in (("images", "imagesTr"), ("labels", "labelsTr")):
        (target / folder).mkdir(parents=True, exist_ok=True)
        for name in (f"{subject}.nii.gz" for subject in subjects):
            if not (target / folder / name).is_file():
                shutil.copyfile(data / task.decathlon / unpacked / name, target / folder / name)
    return target


def reduced(volume: torch.Tensor, factor: int) -> torch.Tensor:
    """Means over cubes of `factor` voxels a side of (C, *spatial), padded with zeros at the far faces."""
    missing = [(-side) % factor for side in volume.shape[:0:-1]]
    padding = [end for side in missing for end in (0, side)]
    return F.avg_pool3d(F.pad(volume.float()[None], padding), factor)[0]


def merged(label: torch.Tensor, task: TaskFile) -> torch.Tensor:
    """A label map with the values of the task.

    Values above `even_and_odd_above` become the next even or odd value after it, values in a list of `merge` become
    the key of the list, and values that `labels` does not have become 0.
    """
    above = task.even_and_odd_above
    if above is not None:
        label = torch.where(label > above, above + 1 + label % 2, label)
    for value, parts in task.merge.items():
        label = torch.where(torch.isin(label, torch.tensor(parts)), int(value), label)
    named = torch.tensor(list(task.labels.values()))
    return torch.where(torch.isin(label, named), label, 0)


def coarse_affine(affine: np.ndarray, factor: int) -> np.ndarray:
    """The affine of a grid of `factor` times larger voxels that starts at the same outer faces as the fine grid."""
    to_fine = np.diag([factor, factor, factor, 1.0])
    to_fine[:3, 3] = (factor - 1) / 2
    return affine @ to_fine
