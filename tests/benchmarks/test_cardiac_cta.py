# SPDX-License-Identifier: Apache-2.0
"""The real cardiac CT under the shipped weights, as benchmarks.cardiac_cta measures it."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from benchmarks import cardiac_cta
from custom.volumes import VolumeError

ROOT = Path(__file__).resolve().parents[2]


def test_nothing_predicted_is_a_dice_of_0_and_no_distance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label = np.zeros((12, 12, 12), np.uint8)
    label[2:6], label[6:8] = 1, 2  # a heart and an aorta; the pulmonary artery is not in view
    volume = np.arange(label.size, dtype=np.int16).reshape(label.shape)
    for name, array in (("ct", volume), ("label_heart1_aorta2_pa3", label)):
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii.gz")
    monkeypatch.setattr(cardiac_cta, "predicted", lambda bundle, ct: np.zeros_like(label))
    output = tmp_path / "cardiac_cta.json"
    cardiac_cta.main(str(tmp_path), str(output), str(tmp_path))
    found = json.loads(output.read_text(), parse_constant=lambda value: pytest.fail(f"{value} in JSON"))
    assert found["heart"]["dice"] == {"heart": 0, "aorta": 0, "pulmonary_artery": None}
    assert set(found["heart"]["hausdorff95"].values()) == {None}
    del found["coronary"]["weights"]
    assert found["coronary"] == {"volume_ml": 0, "share_inside_the_heart_label": None, "median_hu": None}


@pytest.mark.parametrize(("value", "shift"), [(257, 0), (1, 3)])
def test_another_value_is_no_heart_and_another_grid_is_refused(
    value: int, shift: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label, affine = np.zeros((12, 12, 12), np.int16), np.eye(4)
    label[2:6], affine[0, 3] = value, shift
    volume = np.arange(label.size, dtype=np.int16).reshape(label.shape)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "ct.nii.gz")
    nibabel.save(nibabel.Nifti1Image(label, affine), tmp_path / "label_heart1_aorta2_pa3.nii.gz")
    monkeypatch.setattr(cardiac_cta, "predicted", lambda bundle, ct: np.zeros_like(label))
    output = tmp_path / "cardiac_cta.json"
    if shift:
        with pytest.raises(VolumeError, match=r"label_heart1_aorta2_pa3.nii.gz: label map lies up to 3.00 mm off"):
            cardiac_cta.main(str(tmp_path), str(output), str(tmp_path))
        return
    cardiac_cta.main(str(tmp_path), str(output), str(tmp_path))
    assert set(json.loads(output.read_text())["heart"]["dice"].values()) == {None}


@pytest.mark.slow
def test_the_committed_figures_come_again(shared_data: Path, tmp_path: Path) -> None:
    output = tmp_path / "cardiac_cta.json"
    command = [sys.executable, "-m", "benchmarks.cardiac_cta", "--data", shared_data / "cardiac_cta"]
    subprocess.run([*command, "--output", output, "--docs", tmp_path], check=True, cwd=ROOT)
    found, committed = (
        json.loads(path.read_text()) for path in (output, ROOT / "benchmarks" / "results" / "cardiac_cta.json")
    )
    for name, value in committed["heart"]["dice"].items():
        assert found["heart"]["dice"][name] == pytest.approx(value, abs=1e-3)
    assert found["coronary"]["volume_ml"] == pytest.approx(committed["coronary"]["volume_ml"], rel=1e-2)
    assert all((tmp_path / f"gvsl_seg_{name}.png").stat().st_size > 1e4 for name in ("heart", "coronary"))
