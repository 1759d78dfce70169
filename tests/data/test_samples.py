# SPDX-License-Identifier: Apache-2.0
"""SampleDataset: a pure function of seed and index, every volume once each time through, errors that name the file."""

from __future__ import annotations

import os

import nibabel
import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, MapTransform, RandGaussianNoised, RandScaleIntensityd, RandSpatialCropSamplesd

from custom.data import GlobalSampler, SampleDataset, VolumeCache
from custom.transforms import CheckedLoadImaged
from custom.volumes import VolumeError

LOAD = CheckedLoadImaged(("image", "label"), label_keys="label")
NOISE = Compose([RandGaussianNoised("image", prob=1.0, std=0.1), RandScaleIntensityd("image", 0.2, prob=0.5)])


@pytest.fixture
def items(tmp_path):
    """Five volumes whose first voxel is their number."""
    found = []
    for number in range(5):
        image = np.random.default_rng(number).normal(size=(6, 5, 4)).astype(np.float32)
        image[0, 0, 0] = number
        item = {"subject": f"s{number}"}
        for key, array in (("image", image), ("label", (image > 0).astype(np.uint8))):
            item[key] = str(tmp_path / f"{key}_{number}.nii.gz")
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), item[key])
        found.append(item)
    return found


def make(items, random_transform=NOISE, seed=0, **arguments) -> SampleDataset:
    return SampleDataset(items, LOAD, random_transform, seed, progress=False, **arguments)


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(second[name])), name


def test_every_volume_once_each_time_through_in_changing_order(items):
    dataset = make(items, None)
    drawn = [int(dataset[index]["image"][0, 0, 0, 0]) for index in range(30)]
    rounds = [drawn[start : start + 5] for start in range(0, 30, 5)]
    assert all(sorted(of_round) == [0, 1, 2, 3, 4] for of_round in rounds)
    assert len({tuple(of_round) for of_round in rounds}) > 3
    assert drawn == [dataset.volume_of(index) for index in range(30)]
    other = make(items, None, seed=1)
    assert [other.volume_of(index) for index in range(30)] != drawn


def test_a_sample_depends_on_seed_and_index_only(items):
    first, second = make(items), make(items, cache_rate=0.4)
    backwards = {index: second[index] for index in reversed(range(12))}
    for index in range(12):
        assert_same(first[index], backwards[index])
    changed = make(items, seed=1)[0]["image"]
    assert not torch.equal(first[0]["image"], changed)
    same_volume = next(index for index in range(5, 10) if first.volume_of(index) == first.volume_of(0))
    assert not torch.equal(first[0]["image"], first[same_volume]["image"])  # new noise each time


def test_samples_are_plain_tensors_and_numbers(items):
    sample = make(items)[7]
    assert set(sample) == {"image", "label", "index"} and sample["index"] == 7
    assert type(sample["image"]) is torch.Tensor and sample["image"].shape == (1, 6, 5, 4)


def test_the_class_of_a_volume_is_a_label(items):
    items = [item | {"label": number % 2} for number, item in enumerate(items)]
    dataset = SampleDataset(items, CheckedLoadImaged("image"), None, 0, progress=False)
    assert [dataset[index]["label"] for index in range(5)] == [dataset.volume_of(index) % 2 for index in range(5)]
    batch = next(iter(DataLoader(dataset, batch_size=5, num_workers=0)))
    assert batch["label"].dtype == torch.int64


def test_a_changed_class_is_not_taken_from_the_disk_cache(items, tmp_path):
    for label in (0, 1):
        labelled = [item | {"label": label} for item in items]
        dataset = SampleDataset(
            labelled, CheckedLoadImaged("image"), None, 0, cache_dir=tmp_path / "cache", progress=False
        )
        assert dataset[0]["label"] == label


@pytest.mark.parametrize("arguments", [{}, {"cache_rate": 0.0}, {"disk": True}])
def test_the_cache_is_never_spoilt(items, arguments, tmp_path):
    class InPlaced(MapTransform):
        def __call__(self, data):
            data["image"] += 100
            return data

    arguments = {"cache_dir": tmp_path / "cache"} if arguments.pop("disk", False) else arguments
    dataset = make(items, InPlaced("image"), **arguments)
    first = [dataset[0]["image"] for _ in range(3)]
    assert torch.equal(first[0], first[2]) and 90 < first[0].mean() < 120


def test_several_crops_of_a_volume_are_one_batch(items):
    crops = RandSpatialCropSamplesd(["image", "label"], (4, 4, 4), num_samples=2, random_size=False)
    dataset = make(items, crops, samples_per_epoch=4)
    batch = next(iter(DataLoader(dataset, batch_size=2, num_workers=0)))
    assert batch["image"].shape == (4, 1, 4, 4, 4) and batch["index"].tolist() == [0, 0, 1, 1]
    one = make(items, RandSpatialCropSamplesd("image", (4, 4, 4), num_samples=1, random_size=False))
    assert one[0]["image"].shape == (1, 4, 4, 4)


def test_workers_change_nothing(items):
    batches = []
    for workers in (0, 2):
        dataset, sampler = make(items, samples_per_epoch=6), GlobalSampler(6)
        loader = DataLoader(dataset, sampler=sampler, batch_size=2, num_workers=workers)
        found = []
        for epoch in range(2):
            sampler.set_epoch(epoch)
            found += list(loader)
        batches.append(found)
    assert [batch["index"].tolist() for batch in batches[0]] == [[i, i + 1] for i in range(0, 12, 2)]
    for first, second in zip(*batches, strict=True):
        assert_same(first, second)


def test_iteration_ends_and_the_length_is_an_argument(items):
    assert len(make(items)) == 5 and len(list(make(items, samples_per_epoch=3))) == 3


def test_errors_name_the_file(items):
    broken = MapTransform.__new__(type("Broken", (MapTransform,), {"__call__": lambda self, data: data["absent"]}))
    with pytest.raises(RuntimeError, match=r"sample 3 .*image_\d.nii.gz.*absent"):
        make(items, broken)[3]
    items[2]["image"] += ".gone.nii"
    with pytest.raises(VolumeError, match="image_2.nii.gz.gone.nii"):
        make(items)


@pytest.mark.parametrize(
    ("arguments", "found"), [({"seed": -1}, "seed -1"), ({"samples_per_epoch": 0}, "samples_per_epoch 0")]
)
def test_wrong_arguments(items, arguments, found):
    with pytest.raises(ValueError, match=found):
        make(items, **arguments)
    with pytest.raises(ValueError, match="0 items"):
        make([])
    with pytest.raises(IndexError, match="-1"):
        make(items)[-1]
    with pytest.raises(ValueError, match="RandGaussianNoised.*random_transform"):
        SampleDataset(items, NOISE, None, 0)


def test_a_volume_cache_is_a_data_set_by_itself(items):
    volumes = VolumeCache(items, LOAD, progress=False)
    assert len(volumes) == 5 and volumes[3]["subject"] == "s3" and int(volumes[3]["image"][0, 0, 0, 0]) == 3
    assert len(VolumeCache([], LOAD, progress=False)) == 0


def test_a_disk_cache_removes_what_a_killed_run_left(tmp_path):
    left = tmp_path / "cache" / ".tmp.elsewhere.1.1.a.pt"
    left.parent.mkdir()
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    VolumeCache([{"image": "a.nii.gz"}], lambda item: item, cache_dir=left.parent)
    assert not left.exists()
