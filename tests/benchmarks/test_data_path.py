# SPDX-License-Identifier: Apache-2.0
"""Planning with many volumes and crops from disk: what is measured, and the limits at full size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import data_path


def test_reports_planning_and_crops(tmp_path: Path) -> None:
    data_path.main(volumes=40, side=40, crop=16, repeats=3, output=str(tmp_path / "r.json"))
    result = json.loads((tmp_path / "r.json").read_text())
    planning, milliseconds = result["planning"], result["crop"]["milliseconds"]
    parts = ("list, split and draw pairs", "check the training volumes")
    whole = sum(planning["seconds"][part]["clock"] for part in parts)
    assert planning["seconds"]["whole"]["clock"] == pytest.approx(whole, abs=0.02) and planning["volumes"] == 40
    assert milliseconds["mapped"].keys() == milliseconds["whole"].keys() == {"median", "smallest"}


@pytest.mark.slow
def test_a_hundred_thousand_volumes_plan_in_a_minute_and_two_gigabytes(tmp_path: Path) -> None:
    """Seconds of the processor: tests share their cores."""
    planning = data_path.measure_planning(tmp_path, 100_000, header_only=True)
    assert planning["seconds"]["whole"]["processor"] < 60 and planning["peak_memory_gib"] < 2


@pytest.mark.slow
def test_a_crop_of_a_large_volume_takes_less_than_ten_milliseconds(tmp_path: Path) -> None:
    assert data_path.measure_crop(tmp_path, 300, 128, 20)["milliseconds"]["mapped"]["smallest"] < 10
