# SPDX-License-Identifier: Apache-2.0
"""VolumeCache with a folder: the files are checked before the first volume is used, and only those not there yet."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

import custom.data.cache as cache_module
from custom.data.cache import VolumeCache
from custom.transforms import CheckedLoadImaged, RandRelativeCropd
from custom.volumes import VolumeError

LOAD = CheckedLoadImaged(("image", "label"), "label", allow_missing_keys=True)


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


def test_header_only_leaves_truncated_voxels_to_the_first_use(items, tmp_path):
    damage(items[1]["image"])
    cache = VolumeCache(items, LOAD, cache_dir=tmp_path / "cache", header_only=True)
    with pytest.raises(VolumeError, match="image1.nii.gz"):
        cache[1]
    Path(items[2]["image"]).write_bytes(b"no header")
    with pytest.raises(VolumeError, match="image2.nii.gz"):
        VolumeCache(items, LOAD, cache_dir=tmp_path / "cache", header_only=True)


VOXELS = 20**3 * (4 + 4)  # bytes of a float32 image and an int32 label map


@pytest.mark.parametrize(("available", "kept"), [(8 * VOXELS, True), (8 * VOXELS - 1, False), (None, True)])
def test_volumes_stay_in_memory_only_if_they_fit(items, tmp_path, monkeypatch, caplog, available, kept):
    """Four volumes may take half of what is available."""
    caplog.set_level("INFO")
    monkeypatch.setattr(cache_module, "available_memory", lambda: available)
    cache = VolumeCache(items, LOAD, progress=False, overflow_dir=tmp_path / "overflow")
    expected = [LOAD(item)["image"] for item in items]
    assert all(torch.equal(cache[index]["image"], image) for index, image in enumerate(expected))
    assert len(list(tmp_path.glob("overflow/*.pt"))) == (0 if kept else 4)
    (line,) = [text for text in caplog.messages if text.startswith("4 volumes ")]
    assert ("stay in memory" in line) == kept and (kept or f"on disk, in {tmp_path / 'overflow'}: too large" in line)


def test_volumes_that_do_not_fit_anywhere_are_refused(items, monkeypatch):
    monkeypatch.setattr(cache_module, "available_memory", lambda: 1000)
    with pytest.raises(MemoryError, match=r"4 volumes are too large for memory \(about .* expected a cache_dir"):
        VolumeCache(items, LOAD, progress=False)
    VolumeCache(items, LOAD, progress=False, cache_rate=0.0)


def test_all_bad_volumes_are_named_also_if_the_first_is_one(items):
    damage(items[0]["image"])
    damage(items[2]["image"])
    with pytest.raises(VolumeError, match=r"2 of 4 volumes cannot be used:\n  .*image0.nii.gz.*\n  .*image2.nii.gz"):
        VolumeCache(items, LOAD, progress=False)


def test_the_first_usable_volume_tells_whether_all_fit(items, monkeypatch):
    damage(items[0]["image"])
    monkeypatch.setattr(cache_module, "available_memory", lambda: 1000)
    with pytest.raises(MemoryError, match=r"4 volumes are too large for memory \(about 0.0 GB"):
        VolumeCache(items, LOAD, progress=False)


def test_a_subject_with_the_name_of_a_folder_is_no_file(items, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    first = VolumeCache(items, LOAD, cache_dir="cache")
    assert all(first[index] for index in range(4))
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "notes.txt").touch()
    caplog.set_level("INFO")
    caplog.clear()
    VolumeCache(items, LOAD, cache_dir="cache")
    assert "on disk" in caplog.text and "checked the headers" not in caplog.text


def resident(file: Path) -> int:
    """Kilobytes of the mappings of a file that this process has read, as Linux counts them."""
    lines, total = iter(Path("/proc/self/smaps").read_text().splitlines()), 0
    for line in lines:
        if line.endswith(str(file)):
            total += next(int(entry.split()[1]) for entry in lines if entry.startswith("Rss:"))
    return total


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux counts the pages of a mapping")
def test_a_crop_of_a_volume_on_disk_reads_little_more_than_itself(tmp_path):
    path = tmp_path / "a.nii"
    array = np.random.default_rng(0).random((200, 200, 200), dtype=np.float32)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)
    cache = VolumeCache([{"image": str(path)}], LOAD, cache_dir=tmp_path / "cache")
    whole = cache[0]["image"].numpy().copy()
    (file,) = (tmp_path / "cache").glob("*.pt")
    pair = cache[0]
    crop = RandRelativeCropd("image", 8)(pair)["image"]
    assert 0 < resident(file) < file.stat().st_size / 1024 / 3  # Linux reads ahead, up to 2 MB for a page
    crop.zero_()
    pair["image"].zero_()  # a copy of the pages: the file stays as it is
    assert np.array_equal(cache[0]["image"].numpy(), whole)
