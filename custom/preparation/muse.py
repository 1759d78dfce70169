# SPDX-License-Identifier: Apache-2.0
"""T1 brain MR with labels of MUSE or Neuromorphometrics: the values of FreeSurfer, and copies without the skull."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from scipy import ndimage

from ..data.names import stem
from ..labels import BRAIN_LABELS
from ..transforms import CheckedLoadImaged
from ..volumes import VolumeError
from .cases import Case, PreparationReport, existing_folder, name_taken, prepare_cases
from .segmentation import label_counts, write_description
from .volumes import prepared, save_volume

SIZES = {"training": 6, "validation": 2, "test": 2}
FOLDERS = {"image": "images", "label": "labels", "stripped": "stripped"}
LABEL_ENDING = "_DLMUSE"
CORTEX = range(100, 208)  # even values are right, odd ones left
STRUCTURES = {
    "third_ventricle": [4],
    "fourth_ventricle": [11],
    "brain_stem": [35],
    "cerebrospinal_fluid": [46],
    **{
        f"{side}_{structure}": [value + (side == "left") for value in values]
        for side in ("left", "right")
        for structure, values in {
            "amygdala": [31],
            "caudate": [36],
            "cerebellum_cortex": [38],
            "cerebellum_white_matter": [40],
            "cerebral_white_matter": [44, 81, 83, 85, 87, 89, 91, 93],
            "hippocampus": [47],
            "lateral_ventricle": [51],
            "pallidum": [55],
            "putamen": [57],
            "thalamus": [59],
            "ventral_diencephalon": [61],
            "cerebral_cortex": CORTEX[::2],
        }.items()
    },
}
"""Structure -> values of MUSE. From 81 to 93 are the lobes' white matter, fornix and internal capsule, which only MUSE
separates from the white matter. Value 1 of MUSE, the CSF around the brain, has no counterpart in FreeSurfer."""
MIDLINE = {"cerebral_white_matter": [95], "cerebellum_cortex": [71, 72, 73]}
"""Corpus callosum and vermis, which FreeSurfer counts to the left and to the right structure."""


def prepare_muse(
    source: str,
    output_dir: str,
    seed: int = 0,
    skull: bool = True,
    stripped: bool = True,
    test_alone: bool = False,
    workers: int = 2,
) -> PreparationReport:
    """Write images, label maps with the values of FreeSurfer, on the grid of the files, and dataset.json.

    Subjects are split 6 : 2 : 2, or all are for the test. An image without skull has zeros outside the labels, which
    are closed by 3 voxels and filled; both images of a subject are in the same list.

    Args:
        source: folder with NAME.nii.gz and NAME_DLMUSE.nii.gz, or with images/NAME.nii.gz and labels/NAME.nii.gz.
        output_dir: folder for images/, labels/, stripped/, dataset.json and unusable.csv.
        seed: seed of the split.
        skull: write the images as they are.
        stripped: write the images without skull.
        test_alone: list every subject for the test.
        workers: number of processes.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: there are no such pairs of files, or too few can be used; or skull and stripped are both False.
    """
    if not (skull or stripped):
        raise ValueError("skull and stripped are both False, expected one of them at least")
    files_of, unusable = find_muse(existing_folder(source))
    written = {"image": skull, "label": True, "stripped": stripped}
    folders = {key: folder for key, folder in FOLDERS.items() if written[key]}
    cases = [
        Case(name, files, {key: f"{folder}/{name}.nii.gz" for key, folder in folders.items()})
        for name, files in files_of.items()
    ]
    parameters = {"data": "MUSE", "skull": skull, "stripped": stripped}
    report = prepare_cases(cases, prepare_case, Path(output_dir), parameters, workers, unusable)
    sizes = {"test": 1} if test_alone else SIZES
    return write_description(report, "MUSE", "MR", BRAIN_LABELS, sizes, seed, parameters)


def find_muse(source: Path) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """List the files of the data set.

    Returns:
        (name -> {"image": path, "label": path}, path of an unusable label map -> reason).

    Raises:
        ValueError: there are no label maps.
    """
    files_of: dict[str, dict[str, str]] = {}
    unusable = {}
    for label in sorted([*source.glob(f"[!.]*{LABEL_ENDING}.nii*"), *source.glob("labels/[!.]*.nii*")]):
        name = stem(label.name)
        suffix = label.name.removeprefix(name)
        if not suffix:  # such as NAME_DLMUSE.nii.md5
            continue
        folder, name = (
            (source, name.removesuffix(LABEL_ENDING)) if label.parent == source else (source / "images", name)
        )
        images = [folder / f"{name}{ending}" for ending in (suffix, ".nii.gz", ".nii")]
        image = next((path for path in images if path.is_file()), None)
        if image is None:
            unusable[str(label)] = f"no {name}.nii.gz in {folder}"
        elif name in files_of:
            unusable[str(label)] = name_taken(name, files_of[name]["image"])
        else:
            files_of[name] = {"image": str(image), "label": str(label)}
    if not files_of and not unusable:
        raise ValueError(f"{source} holds no NAME.nii.gz with NAME{LABEL_ENDING}.nii.gz, and no images/ with labels/")
    return files_of, unusable


def prepare_case(case: Case, output_dir: Path, parameters: Mapping[str, Any]) -> None:
    """Write the files of one subject."""
    keys = ["image", "label"]
    item = prepared(dict(case.sources), CheckedLoadImaged(keys, label_keys="label"), window=None)
    image, label = item["image"], item["label"]
    translated = to_freesurfer(label)
    save_volume(output_dir / case.targets["label"], translated)
    if "stripped" in case.targets:
        save_volume(output_dir / case.targets["stripped"], image * brain_mask(label), np.float32)
    if "image" in case.targets:
        save_volume(output_dir / case.targets["image"], image, np.float32)


def to_freesurfer(label: MetaTensor) -> MetaTensor:
    """A label map (1, *spatial) of MUSE with the values of `BRAIN_LABELS`; other values become 0.

    Raises:
        VolumeError: the map has none of the values of `STRUCTURES`.
    """
    translated = torch.zeros_like(label)
    for structure, values in STRUCTURES.items():
        translated[torch.isin(label, torch.tensor(list(values), dtype=label.dtype))] = BRAIN_LABELS[structure]
    if not translated.any():
        name, found = label.meta["filename_or_obj"], sorted(label_counts(label))
        raise VolumeError(f"{name}: values {found}, expected those of MUSE, such as 47 and 48 for the hippocampus")
    for structure, values in MIDLINE.items():
        sides = torch.tensor([BRAIN_LABELS[f"{side}_{structure}"] for side in ("left", "right")], dtype=label.dtype)
        _, nearest = ndimage.distance_transform_edt(~torch.isin(translated, sides).numpy(), return_indices=True)
        middle = torch.isin(label, torch.tensor(values, dtype=label.dtype))
        translated[middle] = translated.as_tensor()[tuple(torch.from_numpy(nearest))][middle]
    return translated


def brain_mask(label: MetaTensor) -> torch.Tensor:
    """Where the brain is, (1, *spatial): the labels, closed by 3 voxels and filled."""
    mask = np.pad(label[0].numpy() > 0, 3)
    closed = ndimage.binary_fill_holes(ndimage.binary_closing(mask, iterations=3))
    return torch.from_numpy(closed[3:-3, 3:-3, 3:-3])[None]
