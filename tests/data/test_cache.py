# SPDX-License-Identifier: Apache-2.0
"""VolumeCache with a folder: the files are checked before the first volume is used, and only those not there yet."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from custom.data.cache import VolumeCache
from custom.transforms import LoadVolumed
from custom.volumes import VolumeError

LOAD = LoadVolumed(("image", "label"), "label", allow_missing_keys=True)


@pytest.fixture
def items(tmp_path: Path) -> list[dict]:
    found = []
    for number in range(4):
        item = {key: str(tmp_path / f"{key}{number}.nii.gz") for key in ("image", "label")} | {"subject": str(number)}
        for key in ("image", "label"):
            array = np.random.default_rng(number).integers(0, 9, (20, 20, 20)).astype(np.int16)
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), item[key])
        found.append(item)
    return found


def damage(path: str) -> None:
    Path(path).write_bytes(Path(path).read_bytes()[:-500])


def test_all_bad_files_are_named_before_training(items, tmp_path, caplog):
    caplog.set_level("INFO")
    VolumeCache(items, LOAD, cache_dir=tmp_path / "cache")
    assert "checked the headers of 8 files in" in caplog.text
    damage(items[1]["image"])
    damage(items[3]["label"])
    with pytest.raises(VolumeError, match=r"2 of 4 volumes cannot be used:\n  .*image1.nii.gz.*\n  .*label3.nii.gz"):
        VolumeCache(items, LOAD, cache_dir=tmp_path / "cache")


def test_volumes_on_disk_are_not_checked_again(items, tmp_path, caplog):
    first = VolumeCache(items, LOAD, cache_dir=tmp_path / "cache")
    assert [first[index]["image"].shape for index in range(3)] == [(1, 20, 20, 20)] * 3
    caplog.set_level("INFO")
    VolumeCache(items, LOAD, cache_dir=tmp_path / "cache")
    assert "checked the headers of 2 files in" in caplog.text
