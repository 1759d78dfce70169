# SPDX-License-Identifier: Apache-2.0
"""What examples/hospital tells MONAI Label of a label map's structures; needs no server."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pydicom.sr.codedict import codes

from custom.labels import CARDIAC_LABELS
from examples.hospital.segment import STRUCTURES, describe

NAMES = dict(enumerate(CARDIAC_LABELS, start=1))
CODES = {
    "myocardium": codes.SCT.LeftVentricleMyocardium,
    "left_atrium": codes.SCT.LeftAtrium,
    "left_ventricle": codes.SCT.LeftVentricle,
    "right_atrium": codes.SCT.RightAtrium,
    "right_ventricle": codes.SCT.RightVentricle,
    "aorta": codes.SCT.Aorta,
    "pulmonary_artery": codes.SCT.PulmonaryArtery,
}


def test_every_structure_has_its_code_and_a_colour_that_no_other_is_near() -> None:
    structures = json.loads(STRUCTURES.read_text())
    assert list(structures) == list(CARDIAC_LABELS)
    for name, structure in structures.items():
        assert (structure["code"], structure["meaning"]) == (
            CODES[name].value,
            CODES[name].meaning.capitalize(),
        )
    colours = np.array([structure["colour"] for structure in structures.values()])
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
