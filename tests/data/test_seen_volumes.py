# SPDX-License-Identifier: Apache-2.0
"""An evaluation can tell which of its volumes the weights were trained on."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from custom.data import seen_in_training, write_seen
from custom.data.seen_volumes import volume_identity
from custom.volumes import write_volume


def volumes(folder: Path, count: int) -> list[str]:
    """Volumes of equal size that differ in their values."""
    for number in range(count):
        values = np.random.default_rng(number).normal(size=(12, 12, 12)).astype(np.float32)
        write_volume(folder / f"{number}.nii", values, np.eye(4))
    return [str(folder / f"{number}.nii") for number in range(count)]


def test_training_volumes_are_known_under_other_names(tmp_path: Path) -> None:
    images = volumes(tmp_path / "data", 4)
    write_seen(tmp_path / "run", [{"image": image} for image in images[:2]])
    copy = shutil.copy(images[0], tmp_path / "copy.nii")
    assert seen_in_training(tmp_path / "run", [*images, copy]) == [images[0], images[1], copy]
    (tmp_path / "run" / "model.pt").touch()
    assert seen_in_training(tmp_path / "run" / "model.pt", images) == images[:2]


def test_weights_of_which_nothing_is_known_have_seen_nothing(tmp_path: Path) -> None:
    assert seen_in_training(tmp_path, volumes(tmp_path / "data", 1)) == []


def test_channels_and_folders_are_volumes(tmp_path: Path) -> None:
    a, b = volumes(tmp_path / "data", 2)
    assert volume_identity([a, b]) != volume_identity([b, a])
    folder = tmp_path / "series"
    folder.mkdir()
    (folder / "1.dcm").write_bytes(b"a" * 10)
    (folder / "2.dcm").write_bytes(b"b" * 20)
    before = volume_identity(str(folder))
    (folder / "2.dcm").write_bytes(b"c" * 20)
    assert volume_identity(str(folder)) != before


def test_no_name_is_kept(tmp_path: Path) -> None:
    images = volumes(tmp_path / "patients", 2)
    write_seen(tmp_path / "run", [{"image": image} for image in images])
    text = (tmp_path / "run" / "checkpoints" / "training_volumes.json").read_text()
    assert "patients" not in text and ".nii" not in text
