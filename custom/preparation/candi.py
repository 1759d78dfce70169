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

from ..files import write_json
from ..labels import BRAIN_LABELS
from ..transforms import LoadVolumed
from ..volumes import VolumeError
from .cases import Case, PreparationReport, existing_folder, prepare_cases
from .segmentation import label_counts, segmentation_case, segmentation_description
from .volumes import SPACING, prepared, save_volume, to_ras, to_spacing

PAPER_SIZES = {"training": 40, "validation": 20, "test": 43}
CANDI_CROP = (150, 192, 150)  # mm to the right, front and top; see prepare_candi
GROUPS = ("BPDwithPsy", "BPDwithoutPsy", "HC", "SS")
NAMES = {"BPDwPsy": "BPDwithPsy", "BPDwoPsy": "BPDwithoutPsy", "HC": "HC", "SS": "SS"}  # beginnings of subjects' names
IMAGE_NAME = re.compile(r"([^.].*)_procimg(\.nii(?:\.gz)?)")


def prepare_candi(
    source: str, output_dir: str, seed: int = 0, crop: Sequence[int] = CANDI_CROP, workers: int = 2
) -> PreparationReport:
    """RAS, 1 mm (labels by the nearest voxel), centre crop or zero padding, and dataset.json; intensities stay.

    Labels are `BRAIN_LABELS`; other values become background, and a remark says so. Subjects are split 40 : 20 : 43,
    with like shares of the four groups in each list.

    The paper's centre crop of 160 x 160 x 128 is read in CANDI's own voxels of 0.94 x 0.94 x 1.5 mm, whose 128 slices
    are coronal: 150 mm from left to right and from bottom to top, 192 mm from back to front. Adult heads need it: the
    labels of 28 (18 OASIS, 10 IXI) extend over 123 to 147, 157 to 190 and 121 to 152 mm to the right, front and top.
    Centred on the labels the box holds every labelled voxel of all 28; 160 x 160 x 128 mm in this order does so for 2
    and cuts up to 4.9 % off the others. The box is centred on the volume, so much neck in view still shifts it.

    Args:
        source: folder that holds GROUP/NAME/NAME_procimg.nii.gz and NAME_seg.nii.gz beside it, at any depth.
        output_dir: gets images/, labels/, dataset.json, unusable.csv.
        seed: of the split. crop: size in voxels of 1 mm, (right, front, top). workers: processes.

    Raises:
        FileNotFoundError: no such folder. ValueError: no volume of these names, or too few usable ones; a crop that is
            not three positive numbers.
    """
    size = [int(length) for length in np.atleast_1d(crop)]
    if len(size) != 3 or min(size) < 1:
        raise ValueError(f"crop is {crop}, expected three positive numbers of voxels")
    root = existing_folder(source)
    found, groups, unusable = find_candi(root)
    cases = [segmentation_case(name, files) for name, files in found.items()]
    parameters = {"data": "CANDI", "spacing": list(SPACING), "crop": size}
    output = Path(output_dir)
    report = prepare_cases(cases, prepare_case, output, parameters, workers, unusable)
    ready = {case.name: case for case in cases if case.name in report.ready}
    description = segmentation_description("CANDI", "MR", BRAIN_LABELS, ready, PAPER_SIZES, seed, parameters, groups)
    write_json(output / "dataset.json", description)
    return report


def find_candi(source: Path) -> tuple[dict[str, dict[str, str]], dict[str, str], dict[str, str]]:
    """Name -> {"image": path, "label": path}; name -> group; path -> what is wrong with its place.

    Raises:
        ValueError: no volume of these names.
    """
    found: dict[str, dict[str, str]] = {}
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
        if name in found:
            unusable[str(path)] = f"the name {name} is taken by {found[name]['image']}"
        elif label is None:
            unusable[str(path)] = f"no {name}_seg beside it"
        else:
            found[name] = {"image": str(path), "label": str(label)}
            groups[name] = _group(path, name)
    if not found and not unusable:
        raise ValueError(f"{source} holds no NAME_procimg.nii.gz, expected CANDI as it is unpacked")
    return found, groups, unusable


def prepare_case(case: Case, output_dir: Path, parameters: Mapping[str, Any]) -> str | None:
    """Writes image and label of one volume; remarks on cleared values and on structures that the crop cuts off."""
    keys = ["image", "label"]
    item = prepared(
        dict(case.sources),
        LoadVolumed(keys, label_keys="label"),
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
    """Adds `cleared`, and `dtype`: int16 where it holds all numbers of the source."""
    label, image = item["label"], item["image"]
    label.affine = image.affine  # LoadVolumed lets them differ by half a voxel; both are of one grid
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
    """The nearest folder of a known name, else what the subject's name begins with, else the folder above it."""
    folders = path.resolve().parts[:-1]
    known = (folder for folder in reversed(folders) if folder in GROUPS)
    named = (group for start, group in NAMES.items() if name.startswith(f"{start}_"))
    above = (folder for folder in reversed(folders) if folder != name)
    return next(chain(known, named, above))
