# SPDX-License-Identifier: Apache-2.0
"""MM-WHS 2017 CT: heart crops at 1 mm, split like the paper's table 1."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..labels import CARDIAC_LABELS as MMWHS_LABELS
from ..transforms import CheckedLoadImaged
from ..volumes import VolumeError
from .cases import Case, PreparationReport, existing_folder, name_taken, prepare_cases
from .segmentation import label_counts, segmentation_case, write_description
from .volumes import HU_WINDOW, SPACING, MarginCropd, prepared, save_volume, to_ras, to_spacing

STRAY = (421,)  # value of a few voxels of the published labels; configs declare it as background
PAPER_SIZES = {"training": 15, "validation": 5, "test": 40}
PUBLIC_LABELLED = 20  # number of volumes that were published with labels
IMAGE_NAME = re.compile(r"(ct_(?:train|test)_\d+)_image(\.nii(?:\.gz)?)")


def prepare_mmwhs(
    source: str, output_dir: str, seed: int = 0, margin: float = 10.0, workers: int = 2
) -> PreparationReport:
    """Write heart crops (box of the labels and a margin), RAS, 1 mm, HU in [-1024, 1024], int16, and dataset.json.

    More than 20 labelled volumes are split 15 : 5 : 40. Up to 20 (the public part) are split 15 : 5; then the list
    `test` holds the paths of the unlabelled volumes, as in the Decathlon. Unlabelled volumes are not cropped.

    Args:
        source: folder that holds ct_train_10NN_image.nii.gz, ct_train_10NN_label.nii.gz, ct_test_20NN_image.nii.gz,
            at any depth.
        output_dir: folder for images/, labels/, dataset.json and unusable.csv.
        seed: seed of the split.
        margin: millimetres around the labels.
        workers: number of processes.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: there are no volumes of these names, or too few can be used.
    """
    files_of, unusable = find_mmwhs(existing_folder(source))
    cases = [segmentation_case(name, files) for name, files in files_of.items()]
    parameters = {"data": "MM-WHS CT", "spacing": list(SPACING), "hu_window": list(HU_WINDOW), "margin_mm": margin}
    without_label = {  # only test volumes may lack a label
        files["image"]: f"no {name}_label beside it"
        for name, files in files_of.items()
        if "label" not in files and "_train_" in name
    }
    usable = [case for case in cases if case.sources["image"] not in without_label]
    report = prepare_cases(usable, prepare_case, Path(output_dir), parameters, workers, unusable | without_label)
    labelled = sum("label" in case.targets for case in report.ready.values())
    sizes = PAPER_SIZES if labelled > PUBLIC_LABELLED else {k: PAPER_SIZES[k] for k in ("training", "validation")}
    return write_description(report, "MM-WHS 2017 CT", "CT", MMWHS_LABELS, sizes, seed, parameters)


def find_mmwhs(source: Path) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """List the files of the data set.

    Returns:
        (name -> {"image": path, "label": path where it exists}, sorted by name; path of an unusable image -> reason).

    Raises:
        ValueError: there are no volumes of these names.
    """
    files_of: dict[str, dict[str, str]] = {}
    unusable = {}
    for path in sorted(source.rglob("*_image.nii*"), key=lambda path: (path.name, path)):
        match = IMAGE_NAME.fullmatch(path.name)
        if match and match[1] in files_of:
            unusable[str(path)] = name_taken(match[1], files_of[match[1]]["image"])
        elif match:
            labels = [path.with_name(f"{match[1]}_label{suffix}") for suffix in (match[2], ".nii.gz", ".nii")]
            files_of[match[1]] = {"image": str(path)}
            files_of[match[1]] |= next(({"label": str(label)} for label in labels if label.is_file()), {})
    if not files_of:
        raise ValueError(f"{source} holds no ct_train_NNNN_image.nii.gz, expected MM-WHS as it is unpacked")
    return files_of, unusable


def prepare_case(case: Case, output_dir: Path, parameters: Mapping[str, Any]) -> str | None:
    """Write image and label of one volume; return a remark on values of `STRAY`."""
    keys = list(case.sources)
    transforms = [CheckedLoadImaged(keys, label_keys=[key for key in keys if key == "label"]), to_ras(keys)]
    if "label" in keys:
        transforms += [_check_labels, MarginCropd(keys, "label", parameters["margin_mm"])]
    item = prepared(dict(case.sources), *transforms, to_spacing(keys, parameters["spacing"]))
    for key in reversed(keys):
        save_volume(output_dir / case.targets[key], item[key])
    return item.get("remark")


def _check_labels(item: dict) -> dict:
    counted, name = label_counts(item["label"]), item["label"].meta["filename_or_obj"]
    declared = set(MMWHS_LABELS.values())
    unknown = sorted(set(counted) - declared - set(STRAY) - {0})
    if unknown or not declared & set(counted):
        raise VolumeError(f"{name}: values {sorted(counted)}, expected 0 and some of {sorted(declared)}")
    stray = {value: counted[value] for value in STRAY if value in counted}
    return item | ({"remark": f"values {stray} (value: voxels) of no structure stay in the label map"} if stray else {})
