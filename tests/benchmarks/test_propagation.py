# SPDX-License-Identifier: Apache-2.0
"""benchmarks.propagation: the Dice of propagated labels is that of the written label maps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from benchmarks.propagation import main, summary
from custom.volumes import write_volume

WEIGHTS = Path(__file__).resolve().parents[2] / "bundles" / "gvsl_pretrain" / "models"


def write(folder: Path, name: str, centre: tuple[int, int, int]) -> None:
    """A body of HU 300 and label 7 in one of -300, 24^3 at 3.5 mm."""
    mask = sum((axis - place) ** 2 for axis, place in zip(np.indices((24, 24, 24)), centre, strict=True)) < 49
    affine = np.diag([3.5, 3.5, 3.5, 1.0])
    write_volume(
        folder / "images" / f"{name}.nii.gz", (gaussian_filter(mask * 600.0, 1) - 300).astype(np.int16), affine
    )
    write_volume(folder / "labels" / f"{name}.nii.gz", mask.astype(np.int16) * 7, affine)


def test_every_volume_is_measured(tmp_path, capsys):
    for number, centre in enumerate(((11, 12, 12), (12, 12, 13))):
        write(tmp_path / "atlases", f"a{number}", centre)
        write(tmp_path / "volumes", f"v{number}", (13, 11, 12))
    output = tmp_path / "result.json"
    folders = (str(tmp_path / "atlases"), str(tmp_path / "volumes"), str(WEIGHTS))
    main(*folders, refine=20, output=str(output))
    result = json.loads(output.read_text())
    assert [(case["subject"], case["atlases"]) for case in result["cases"]] == [("v0", 2), ("v1", 2)]
    assert result["dice"]["overall"]["mean"] == result["cases"][0]["mean_dice"] > 0.9
    assert json.loads(capsys.readouterr().out) == result["dice"]
    main(*folders, parts=("training",), count=1, refine=0, output=str(output))
    assert [case["atlases"] for case in json.loads(output.read_text())["cases"]] == [1, 1]
    with pytest.raises(ValueError, match=r"parts \['tests'\] of .* have no volumes, expected some of \['training'\]"):
        main(*folders, parts="training,tests")


def test_means_are_over_cases_that_have_a_label():
    cases = [{"mean_dice": 0.5, "dice": {"10": 0.4, "2": 0.6}}, {"mean_dice": 0.8, "dice": {"2": 0.8}}]
    cases += [{"mean_dice": None, "dice": {}}]  # a label map of background
    assert summary(cases)["dice"] == {
        "overall": {"mean": 0.65, "standard_deviation": pytest.approx(0.15)},
        "2": 0.7,
        "10": 0.4,
    }
