# SPDX-License-Identifier: Apache-2.0
"""The benchmark of large volumes compares the same work, on a tiny volume."""

from __future__ import annotations

import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest

from benchmarks import inference
from custom.files import read_json

VOXEL = (3.5, 3.5, 3.5)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(-900, 900, (20, 20, 16)).astype(np.int16)
    monkeypatch.setitem(inference.TASKS, 8, ("gvsl_seg_heart", lambda seed: (image, image, np.diag([7.0, 7, 7, 1]))))


def here(call: list[str], **_: object) -> subprocess.CompletedProcess:
    """What runs in place of a process of its own."""
    exec(call[2])
    return subprocess.CompletedProcess(call, 0)


def test_our_labels_are_those_of_stock_monai(tmp_path: Path, tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference.subprocess, "run", here)
    monkeypatch.setattr(inference.resource, "setrlimit", lambda *_: None)
    output, kinds = tmp_path / "r.json", ("network", "ours", "stock")
    inference.main(side=40, depth=32, voxel=VOXEL, kinds=kinds, output=str(output))
    (name, result), *others = read_json(output, "a result").items()
    assert name == "40x40x32, 8 classes" and not others and result["volume_float32_bytes"] == 4 * 40 * 40 * 32
    assert result["stock"]["voxels with another label than ours / all"] == 0
    assert result["ours"]["peak / volume"] == pytest.approx(result["ours"]["peak_bytes"] / 204800, abs=1e-3)
    for kind in kinds:
        seconds, passes = (result[kind][part]["processor"] for part in ("seconds", "passes"))
        assert seconds >= passes > 0 and result[kind]["seconds / passes"] == pytest.approx(seconds / passes, abs=1e-3)


@pytest.mark.parametrize(
    ("status", "error"), [(1, "RuntimeError: can't allocate memory: you tried to allocate 9 bytes"), (-9, "")]
)
def test_a_process_that_needs_too_much_memory_is_told(monkeypatch: pytest.MonkeyPatch, status: int, error: str) -> None:
    ended = subprocess.CompletedProcess("", status, stderr=f"Traceback\n{error}\n" if error else "")
    monkeypatch.setattr(inference.subprocess, "run", lambda *_, **__: ended)
    assert inference.measured_alone("stock", "python") == {"out_of_memory": error or "killed"}


def test_another_failure_of_a_process_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.CompletedProcess("", 1, stderr="ValueError: no such kind")
    monkeypatch.setattr(inference.subprocess, "run", lambda *_, **__: ended)
    with pytest.raises(RuntimeError, match="nnunet: exit status 1: ValueError: no such kind"):
        inference.measured_alone("nnunet", "python")


def test_the_phantom_has_the_voxels_asked_for_and_its_contrast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = np.random.default_rng(0).integers(-900, 900, (6, 5, 4)).astype(np.int16)
    affine = np.diag([-3.0, 4, 5, 1])
    monkeypatch.setitem(inference.TASKS, 8, ("gvsl_seg_heart", lambda seed: (small, small, affine)))
    inference.write_phantom(tmp_path / "case.nii.gz", 8, (12, 15, 8), (0.5, 1, 2))
    written = nibabel.load(tmp_path / "case.nii.gz")
    assert written.shape == (12, 15, 8) and written.get_data_dtype() == np.int16
    assert np.allclose(np.diag(written.affine), [-0.5, 1, 2, 1])
    assert abs(np.asarray(written.dataobj).mean() - small.mean()) < 60


def test_the_share_of_other_labels(tmp_path: Path) -> None:
    for name, labels in (("ours", [0, 205, 420, 420]), ("stock", [0, 1, 1, 2])):
        (tmp_path / name).mkdir()
        array = np.array(labels, dtype=np.int32).reshape(2, 1, 2)
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / name / "case_label.nii.gz")
    assert inference.differing_share(str(tmp_path / "ours"), str(tmp_path / "stock"), [0, 205, 420]) == 0.25


def test_unknown_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"classes is 5, expected one of \[8, 29\]"):
        inference.main(classes=5)
