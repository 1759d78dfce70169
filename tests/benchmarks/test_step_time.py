# SPDX-License-Identifier: Apache-2.0
"""The benchmark measures what it says, on tiny volumes."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from benchmarks import step_time


def test_reports_ratio_parts_waiting_and_memory(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for subject in range(4):
        volume = np.random.default_rng(subject).normal(0, 300, (20, 20, 20)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(volume, np.diag([3.5, 3.5, 3.5, 1])), data / f"{subject}.nii.gz")
    output = str(tmp_path / "r.json")
    tiny = {"side": 16, "repeats": 1, "workers": 0, "iterations": 2, "dataset_dir": str(data)}
    step_time.main(**tiny, clock="processor", output=output)
    result = json.loads((tmp_path / "r.json").read_text())
    seconds = {name: values["median"] for name, values in result["seconds"].items()}
    ratio = seconds["step"] / seconds["bare backbone forward + backward"]
    assert result["step / bare backbone"]["median"] == pytest.approx(ratio, rel=0.01)  # of one repeat
    assert {"spatial transform", "backward", "optimizer", "loss forward"} < set(seconds)
    assert 0 <= result["trainer"]["waiting_share"] < 1 and result["trainer"]["steps"] == 2
    assert result["trainer"]["seconds_to_first_iteration"] > 0
    arithmetic = result["multiply-adds, 10^9"]
    assert 1 < arithmetic["step / bare backbone"] < 2 and arithmetic["step"] > arithmetic["bare backbone"] > 0
    assert result["peak_memory_gib"] > 0 and result["clock"] == "processor"


def test_an_unknown_clock_is_refused() -> None:
    with pytest.raises(ValueError, match=r"clock is 'cpu', expected one of \['wall', 'processor'\]"):
        step_time.main(clock="cpu")
