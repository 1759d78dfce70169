# SPDX-License-Identifier: Apache-2.0
"""The benchmark of large volumes compares the same work, on a tiny volume."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from benchmarks import inference
from custom.files import read_json


def test_processes_are_compared_in_volumes_and_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(-900, 900, (20, 20, 16)).astype(np.int16)
    monkeypatch.setitem(inference.TASKS, 8, ("gvsl_seg_heart", lambda seed: (image, image, np.diag([7.0, 7, 7, 1]))))
    monkeypatch.setattr(inference.subprocess, "run", lambda call, **_: exec(call[2]))  # here instead of in a process
    output = tmp_path / "r.json"
    inference.main(side=40, depth=32, kinds=("network", "ours"), output=str(output))
    (name, result), *others = read_json(output, "a result").items()
    assert name == "40x40x32, 8 classes" and not others and result["volume_float32_bytes"] == 4 * 40 * 40 * 32
    assert result["network"]["seconds / network"] == 1 and result["ours"]["seconds"] > 0
    assert result["ours"]["peak / volume"] == pytest.approx(result["ours"]["peak_bytes"] / 204800, abs=1e-3)


def test_the_phantom_keeps_its_size_and_contrast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = np.random.default_rng(0).integers(-900, 900, (6, 5, 4)).astype(np.int16)
    affine = np.diag([3.0, 4, 5, 1])
    monkeypatch.setitem(inference.TASKS, 8, ("gvsl_seg_heart", lambda seed: (small, small, affine)))
    inference.write_phantom(tmp_path / "case.nii.gz", 8, (12, 15, 8))
    written = nibabel.load(tmp_path / "case.nii.gz")
    assert written.shape == (12, 15, 8) and written.get_data_dtype() == np.int16
    assert np.allclose(np.diag(written.affine)[:3] * written.shape, np.diag(affine)[:3] * small.shape)
    assert abs(np.asarray(written.dataobj).mean() - small.mean()) < 60


def test_the_share_of_other_labels(tmp_path: Path) -> None:
    for name, labels in (("ours", [0, 1, 2, 2]), ("stock", [0, 1, 1, 2])):
        (tmp_path / name).mkdir()
        array = np.array(labels, dtype=np.int32).reshape(4, 1, 1)
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / name / "case_label.nii.gz")
    assert inference.differing_share(str(tmp_path / "ours"), str(tmp_path / "stock")) == 0.25


def test_unknown_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"classes is 5, expected one of \[8, 29\]"):
        inference.main(classes=5)
