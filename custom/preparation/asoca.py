# SPDX-License-Identifier: Apache-2.0
"""ASOCA 2020: crops of cardiac CT angiograms around the coronary arteries at 1 mm, split like the paper's table 1."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..labels import CORONARY_LABELS as ASOCA_LABELS
from ..transforms import CheckedLoadImaged
from ..volumes import VolumeError
from .cases import Case, PreparationReport, existing_folder, name_taken, prepare_cases
from .segmentation import label_counts, segmentation_case, write_description
from .volumes import HU_WINDOW, SPACING, MarginCropd, prepared, save_volume, to_ras, to_spacing

PAPER_SIZES = {"training": 15, "validation": 5, "test": 20}
ANNOTATIONS, IMAGES = "annotations", "ctca"  # names of folders, in lower case
TEST_SET = "test"  # begins the folders whose annotations were never published
GROUPS = {"normal": "Normal", "diseas": "Diseased"}  # beginnings of folders and files


def prepare_asoca(
    source: str, output_dir: str, seed: int = 0, margin: float = 20.0, workers: int = 2
) -> PreparationReport:
    """Write crops (box of the annotation and a margin), RAS, 1 mm, HU in [-1024, 1024], int16, and dataset.json.

    Labelled volumes are split 15 : 5 : 20, with equal shares of Normal and Diseased in each list. The test set of the
    challenge has no annotations; its volumes are not cropped and are listed as `unlabelled`.

    Annotations are resampled linearly with a threshold of 0.5, which is better for thin vessels than the nearest
    voxel. It was measured with oblique tubes of 2 mm diameter, drawn in 12 directions in the voxel sizes below,
    resampled to 1 mm and compared with tubes drawn at 1 mm (in brackets: by the nearest voxel):

        voxel size in mm               0.35 x 0.35 x 0.625    0.4 x 0.4 x 0.8    0.45 x 0.45 x 1.25
        Dice                           0.94 (0.90)            0.91 (0.84)        0.87 (0.82)
        share of centre line inside    1.00 (1.00)            1.00 (0.99)        1.00 (0.99)
        volume after / before          0.96 (0.99)            1.09 (1.05)        0.91 (0.95)

    With both methods every tube stays in one piece.

    Args:
        source: folder that holds Normal/CTCA/Normal_N.nrrd, Normal/Annotations/Normal_N.nrrd, the same for Diseased,
            and Testset_*/CTCA without annotations, at any depth.
        output_dir: folder for images/, labels/, dataset.json and unusable.csv.
        seed: seed of the split.
        margin: millimetres around the arteries.
        workers: number of processes.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: there are no NRRD files, or too few can be used.
    """
    root = existing_folder(source)
    files_of, groups, unusable = find_asoca(root)
    cases = [segmentation_case(name, files) for name, files in files_of.items()]
    parameters = {"data": "ASOCA 2020", "spacing": list(SPACING), "hu_window": list(HU_WINDOW), "margin_mm": margin}
    report = prepare_cases(cases, prepare_case, Path(output_dir), parameters, workers, unusable)
    return write_description(report, "ASOCA 2020", "CT", ASOCA_LABELS, PAPER_SIZES, seed, parameters, groups)


def find_asoca(source: Path) -> tuple[dict[str, dict[str, str]], dict[str, str], dict[str, str]]:
    """List the files of the data set.

    An annotation belongs to the image whose path is equal except for the folders CTCA and Annotations. The name of a
    case always begins with its folder Normal, Diseased or Testset_*.

    Returns:
        (name -> {"image": path, "label": path where it exists}, name -> group, path of an unusable file -> reason).

    Raises:
        ValueError: there are no NRRD files.
    """
    images, annotations = {}, {}
    for path in sorted(source.rglob("[!.]*.nrrd")):
        parts = path.relative_to(source).parts
        key = tuple(part for part in parts if part.lower() not in (ANNOTATIONS, IMAGES))
        (annotations if ANNOTATIONS in map(str.lower, parts[:-1]) else images)[key] = str(path)
    if not images:
        raise ValueError(f"{source} holds no CTCA/NAME.nrrd, expected ASOCA as it is unpacked (Normal, Diseased)")
    unusable = {path: "no image of this annotation" for key, path in annotations.items() if key not in images}
    files_of: dict[str, dict[str, str]] = {}
    groups = {}
    for key, image in images.items():
        name = _name(key)
        if name in files_of:
            unusable[image] = name_taken(name, files_of[name]["image"])
        elif key in annotations:
            files_of[name] = {"image": image, "label": annotations[key]}
        elif any(part.lower().startswith(TEST_SET) for part in key):
            files_of[name] = {"image": image}
        else:
            unusable[image] = "no annotation of the same name in a folder Annotations, and no part of the test set"
        groups[name] = _group(key)
    return files_of, groups, unusable


def prepare_case(case: Case, output_dir: Path, parameters: Mapping[str, Any]) -> None:
    """Write image and annotation of one volume."""
    keys = list(case.sources)
    label_keys = [key for key in keys if key == "label"]
    transforms = [CheckedLoadImaged(keys, label_keys), to_ras(keys)]
    if label_keys:
        transforms += [_check_labels, MarginCropd(keys, "label", parameters["margin_mm"])]
    item = prepared(dict(case.sources), *transforms, to_spacing(keys, parameters["spacing"], label_mode="bilinear"))
    if label_keys:
        item["label"] = (item["label"] >= 0.5).float()
    for key in reversed(keys):
        save_volume(output_dir / case.targets[key], item[key])


def _check_labels(item: dict) -> dict:
    values, declared = sorted(label_counts(item["label"])), sorted(ASOCA_LABELS.values())
    if not set(declared) <= set(values) <= {0, *declared}:
        raise VolumeError(f"{item['label'].meta['filename_or_obj']}: values {values}, expected 0 and {declared}")
    return item


def _name(parts: tuple[str, ...]) -> str:
    """The name of a case from the parts of its path without the folders CTCA and Annotations."""
    name = parts[-1].removesuffix(".nrrd")
    for folder in reversed(parts[:-1]):
        known = folder.lower().startswith((*GROUPS, TEST_SET))
        name = f"{folder}_{name}" if known and not name.lower().startswith(folder.lower()) else name
    return name


def _group(parts: tuple[str, ...]) -> str:
    """The group that the file name or the nearest folder names, otherwise the name of the folder."""
    for part in reversed(parts):
        for beginning, group in GROUPS.items():
            if part.lower().startswith(beginning):
                return group
    return parts[-2] if len(parts) > 1 else ""
