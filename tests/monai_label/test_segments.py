# SPDX-License-Identifier: Apache-2.0
"""What examples/hospital tells MONAI Label of a label map's structures; needs no server."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pydicom.sr.codedict import codes

from custom.labels import CARDIAC_LABELS
from examples.hospital.segment import STRUCTURES, describe

NAMES = dict(enumerate(CARDIAC_LABELS, start=1))
CODES = [code for code in (getattr(codes.SCT, name) for name in dir(codes.SCT)) if hasattr(code, "meaning")]
BUNDLES = Path(__file__).resolve().parents[2] / "bundles"


def test_every_structure_of_the_bundles_has_a_code_of_the_standard() -> None:
    structures = json.loads(STRUCTURES.read_text())
    named = [json.loads((folder / "configs" / "inference.json").read_text()) for folder in BUNDLES.glob("gvsl_seg_*")]
    assert set(structures) == {name for config in named for name in config["labels"]}
    known = {(code.value, code.meaning.capitalize()) for code in CODES}
    assert not [name for name, entry in structures.items() if (entry["code"], entry["meaning"]) not in known]


def test_no_colour_of_a_heart_is_near_another() -> None:
    structures = json.loads(STRUCTURES.read_text())
    colours = np.array([structures[name]["colour"] for name in CARDIAC_LABELS])
    distances = np.linalg.norm(colours[:, None] - colours, axis=2) + 255 * np.eye(len(colours))
    assert colours.min() >= 0 and colours.max() <= 255 and distances.min() > 60


@pytest.mark.parametrize("absent", NAMES)
def test_an_absent_structure_changes_no_other(absent: int) -> None:
    everything = describe(list(NAMES), NAMES, "heart")
    assert [segment["name"] for segment in everything] == list(CARDIAC_LABELS)
    assert [segment["segmentAttribute"]["labelID"] for segment in everything] == list(NAMES)
    del everything[absent - 1]
    assert describe([value for value in NAMES if value != absent], NAMES, "heart") == everything


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        ([], NAMES, "the label map has no structure"),
        ([1, 8], NAMES, r"the values \[8\] of the label map have no structure"),
        ([1, 2], {1: "aorta", 2: "liver"}, r"the values \[2\] of the label map have no structure"),
    ],
)
def test_what_cannot_be_described_is_refused(values: list[int], names: dict[int, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        describe(values, names, "heart")
