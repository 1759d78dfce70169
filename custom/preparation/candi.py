# SPDX-License-Identifier: Apache-2.0
"""CANDI (NITRC's CANDI_share): T1 brain MR at 1 mm with 28 structures, split like the paper's table 1."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import ResizeWithPadOrCropd

from ..labels import BRAIN_LABELS
from ..transforms import CheckedLoadImaged
from ..volumes import VolumeError
from .cases import Case, PreparationReport, existing_folder, name_taken, prepare_cases
from .segmentation import label_counts, segmentation_case, write_description
from .volumes import SPACING, prepared, save_volume, to_ras, to_spacing

PAPER_SIZES = {"training": 40, "validation": 20, "test": 43}
CANDI_CROP = (150, 192, 150)  # mm along the axes to the right, front and top; see prepare_candi
GROUPS = ("BPDwithPsy", "BPDwithoutPsy", "HC", "SS")
NAMES = {"BPDwPsy": "BPDwithPsy", "BPDwoPsy": "BPDwithoutPsy", "HC": "HC", "SS": "SS"}  # beginnings of subjects' names
IMAGE_NAME = re.compile(r"([^.].*)_procimg(\.nii(?:\.gz)?)")


def prepare_candi(
    source: str, output_dir: str, seed: int = 0, crop: Sequence[int] = CANDI_CROP, workers: int = 2
) -> PreparationReport:
    """Write volumes in RAS at 1 mm (labels by the nearest voxel), cropped or padded to one size, and dataset.json.

    Intensities do not change. Labels are `BRAIN_LABELS`; other values become background, with a remark. Subjects are
    split 40 : 20 : 43, with equal shares of the four groups in each list.

    The size follows from the paper's centre crop of 160 x 160 x 128 voxels, in the voxels of CANDI: 0.94 x 0.94 mm in
    a coronal slice and 1.5 mm between the 128 slices. This is 150 mm from left to right and from bottom to top, and
    192 mm from back to front. The labels of 28 adult heads (18 of OASIS, 10 of IXI) extend over 123 to 147 mm (to the
    right), 157 to 190 mm (to the front) and 121 to 152 mm (to the top). Centred on the labels, the box of 150 x 192 x
    150 mm holds all labelled voxels of all 28 heads. A box of 160 x 160 x 128 mm holds those of 2 heads and cuts off
    up to 4.9 % of the others. The crop is centred on the volume, so a long neck in the image shifts it.

    Args:
        source: folder that holds GROUP/NAME/NAME_procimg.nii.gz and NAME_seg.nii.gz beside it, at any depth.
        output_dir: folder for images/, labels/, dataset.json and unusable.csv.
        seed: seed of the split.
        crop: size in voxels of 1 mm along the axes to the right, front and top.
        workers: number of processes.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: there are no volumes of these names, too few can be used, or `crop` is not three positive numbers.
    """
    size = [int(length) for length in np.atleast_1d(crop)]
    if len(size) != 3 or min(size) < 1:
        raise ValueError(f"crop is {crop}, expected three positive numbers of voxels")
    root = existing_folder(source)
    files_of, groups, unusable = find_candi(root)
    cases = [segmentation_case(name, files) for name, files in files_of.items()]
    parameters = {"data": "CANDI", "spacing": list(SPACING), "crop": size}
    report = prepare_cases(cases, prepare_case, Path(output_dir), parameters, workers, unusable)
    return write_description(report, "CANDI", "MR", BRAIN_LABELS, PAPER_SIZES, seed, parameters, groups)


def find_candi(source: Path) -> tuple[dict[str, dict[str, str]], dict[str, str], dict[str, str]]:
    """List the files of the data set.

    Returns:
        (name -> {"image": path, "label": path}, name -> group, path of an unusable image -> reason).

    Raises:
        ValueError: there are no volumes of these names.
    """
    files_of: dict[str, dict[str, str]] = {}
    groups, unusable = {}, {}
    for path in sorted(source.rglob("*_procimg.nii*")):
        match = IMAGE_NAME.fullmatch(path.name)
        if not match:
            continue
        name, suffix = match.groups()
        # some of the labels of group SS are named NAME.seg.nii.gz
        endings = [f"{end}{last}" for last in (suffix, ".nii.gz", ".nii") for end in ("_seg", ".seg")]
        labels = [path.with_name(f"{name}{ending}") for ending in endings]
        label = next((candidate for candidate in labels if candidate.is_file()), None)
        if name in files_of:
            unusable[str(path)] = name_taken(name, files_of[name]["image"])
        elif label is None:
            unusable[str(path)] = f"no {name}_seg beside it"
        else:
            files_of[name] = {"image": str(path), "label": str(label)}
            groups[name] = _group(path, name)
    if not files_of and not unusable:
        raise ValueError(f"{source} holds no NAME_procimg.nii.gz, expected CANDI as it is unpacked")
    return files_of, groups, unusable


def prepare_case(case: Case, output_dir: Path, parameters: Mapping[str, Any]) -> str | None:
    """Write image and label of one volume; return a remark on cleared values and on voxels that the crop cuts off."""
    keys = ["image", "label"]
    item = prepared(
        dict(case.sources),
        CheckedLoadImaged(keys, label_keys="label"),
        _clear_other_labels,
        to_ras(keys),
        to_spacing(keys, parameters["spacing"]),
        window=None,
    )
    whole = int((item["label"] > 0).sum())
    cropped = ResizeWithPadOrCropd(keys, parameters["crop"])(item)
    lost = whole - int((cropped["label"] > 0).sum())
    save_volume(output_dir / case.targets["label"], cropped["label"])
    save_volume(output_dir / case.targets["image"], cropped["image"], item["dtype"])
    remarks = [f"other values (value: voxels) {item['cleared']} are background"] if item["cleared"] else []
    remarks += [f"the crop cuts off {lost} of {whole} labelled voxels"] if lost else []
    return "; ".join(remarks) or None


def _clear_other_labels(item: dict) -> dict:
    """Set undeclared labels to 0. Adds `cleared` (value -> voxels) and `dtype` (int16 if it holds all intensities)."""
    label, image = item["label"], item["image"]
    counted, declared = label_counts(label), set(BRAIN_LABELS.values())
    if not declared & set(counted):
        name = label.meta["filename_or_obj"]
        raise VolumeError(f"{name}: values {sorted(counted)}, expected some of {sorted(declared)}")
    cleared = {value: count for value, count in counted.items() if value not in declared | {0}}
    label[torch.isin(label.as_tensor(), torch.tensor(list(cleared), dtype=label.dtype))] = 0
    limits = np.iinfo(np.int16)
    whole = bool((image == image.round()).all()) and limits.min <= image.min() and image.max() <= limits.max
    return item | {"cleared": cleared, "dtype": np.int16 if whole else np.float32}


def _group(path: Path, name: str) -> str:
    """The nearest folder with the name of a group, otherwise the group of the subject's name, otherwise the folder."""
    folders = path.resolve().parts[:-1]
    of_folders = (folder for folder in reversed(folders) if folder in GROUPS)
    of_name = (group for start, group in NAMES.items() if name.startswith(f"{start}_"))
    above = (folder for folder in reversed(folders) if folder != name)
    return next(chain(of_folders, of_name, above))
