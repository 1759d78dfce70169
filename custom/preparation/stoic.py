# SPDX-License-Identifier: Apache-2.0
"""STOIC 2021: lung crops of chest CTs at 1 mm with COVID-19 as label, split like the paper's table 1."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import write_json
from ..transforms import CheckedLoadImaged
from ..transforms.lungs import LungMaskd
from ..volumes import VOLUME_SUFFIXES
from .cases import Case, PreparationReport, existing_folder, name_taken, prepare_cases
from .splits import draw_split, scaled_sizes, split_note
from .volumes import HU_WINDOW, SPACING, MarginCropd, prepared, save_volume, to_ras, to_spacing

logger = logging.getLogger(__name__)

PAPER_SIZES = {"training": 1000, "validation": 400, "test": 600}
COLUMNS = ("PatientID", "probCOVID", "probSevere")
LIKELY = 0.5  # a higher probability counts as 1; the published ones are 0 or 1


def prepare_stoic(
    source: str, output_dir: str, seed: int = 0, margin: float = 10.0, workers: int = 2
) -> PreparationReport:
    """Write lung crops (`lung_mask` and a margin), RAS, 1 mm, HU in [-1024, 1024], int16, and dataset.json.

    Items of dataset.json: {"image", "mask", "label": 0 or 1 (COVID-19), "severe": 0 or 1, "subject"}. Subjects are
    split 1000 : 400 : 600, with equal shares of COVID-19 in each list.

    Args:
        source: folder with data/mha/N.mha and metadata/reference.csv (PatientID, probCOVID, probSevere).
        output_dir: folder for images/, masks/, dataset.json and unusable.csv.
        seed: seed of the split.
        margin: millimetres around the lungs.
        workers: number of processes.

    Raises:
        FileNotFoundError: the folder or reference.csv does not exist.
        ValueError: columns are missing, or too few subjects can be used.
    """
    root = existing_folder(source)
    reference, unusable = read_reference(root / "metadata" / "reference.csv")
    cases = []
    for name in reference:
        image = root / "data" / "mha" / f"{name}.mha"
        candidates = dict.fromkeys((image, *(image.with_name(f"{name}{suffix}") for suffix in VOLUME_SUFFIXES)))
        existing = [str(path) for path in candidates if path.is_file()]
        if existing:
            targets = {key: f"{key}s/{name}.nii.gz" for key in ("image", "mask")}
            cases.append(Case(name, {"image": existing[0]}, targets))
            unusable |= {path: name_taken(name, existing[0]) for path in existing[1:]}
        else:
            unusable[str(image)] = "no such file, but reference.csv names its subject"
    parameters = {"data": "STOIC", "spacing": list(SPACING), "hu_window": list(HU_WINDOW), "margin_mm": margin}
    report = prepare_cases(cases, prepare_case, Path(output_dir), parameters, workers, unusable)
    description = _description(report.ready, reference, seed, parameters)
    write_json(report.output_dir / "dataset.json", description, "the description of the data set")
    return report


def read_reference(path: Path) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    """Read reference.csv.

    Returns:
        (subject -> {"label": 0 or 1, "severe": 0 or 1}, "file:line" of an unusable row -> reason).

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a column is missing.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, expected STOIC as it is unpacked (data/mha, metadata)")
    reference: dict[str, dict[str, int]] = {}
    unusable = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise ValueError(f"{path} has the columns {rows.fieldnames}, expected {list(COLUMNS)}")
        for row in rows:
            name, line = row["PatientID"], f"{path}:{rows.line_num}"
            try:
                likely = {key: float(row[column]) for key, column in (("label", "probCOVID"), ("severe", "probSevere"))}
            except (TypeError, ValueError):
                unusable[line] = f"{row}, expected numbers from 0 to 1"
                continue
            if not name or name in reference or not all(0 <= value <= 1 for value in likely.values()):
                unusable[line] = f"{row}, expected a new PatientID and numbers from 0 to 1"
            else:
                reference[name] = {key: int(value > LIKELY) for key, value in likely.items()}
    return reference, unusable


def prepare_case(case: Case, output_dir: Path, parameters: Mapping[str, Any]) -> None:
    """Write image and lung mask of one volume."""
    keys = ["image", "mask"]
    item = prepared(
        dict(case.sources),
        CheckedLoadImaged("image"),
        to_ras(["image"]),
        LungMaskd("image", "mask"),
        MarginCropd(keys, "mask", parameters["margin_mm"]),
        to_spacing(keys, parameters["spacing"]),
    )
    for key in reversed(keys):
        save_volume(output_dir / case.targets[key], item[key])


def _description(
    cases: Mapping[str, Case], reference: Mapping[str, dict[str, int]], seed: int, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    scaled = scaled_sizes(len(cases), PAPER_SIZES)
    note = split_note(len(cases), PAPER_SIZES, scaled)
    logger.info(note)
    split = draw_split({name: reference[name]["label"] for name in cases}, scaled, seed)
    lists = {
        part: [
            {key: f"./{path}" for key, path in cases[name].targets.items()} | reference[name] | {"subject": name}
            for name in names
        ]
        for part, names in split.items()
    }
    return {
        "name": "STOIC 2021",
        "modality": {"0": "CT"},
        "labels": {"0": "no COVID-19", "1": "COVID-19"},
        "preprocessing": dict(parameters),
        "split": {"seed": seed, "note": note},
        "numTraining": len(lists["training"]),
        "numTest": len(lists["test"]),
        **lists,
    }
