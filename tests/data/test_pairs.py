# SPDX-License-Identifier: Apache-2.0
"""PairDataset and FixedPairDataset: pure functions of seed and index, other subjects, an untouched cache, errors."""

import errno
import logging
import os
import pickle
import re
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    CenterSpatialCropd,
    Compose,
    MapTransform,
    RandGaussianNoised,
    Randomizable,
    RandRicianNoised,
    ScaleIntensityd,
    SpatialPadd,
)
from torch.utils.data import DataLoader

import custom.data.pairs as pairs_module
from custom.data import FixedPairDataset, GlobalSampler, PairDataset, find_volumes, fixed_pairs
from custom.transforms import CheckedLoadImaged
from custom.transforms.crop import RandRelativeCropd
from custom.volumes import VolumeError

SHARED = Path(__file__).parents[3] / "shared" / "data"
SIZE = 12
PAIR_KEYS = ("moving", "fixed", "moving_label", "fixed_label")


def write_volumes(folder, subjects=4, files_per_subject=1, labels=True):
    """Image number n holds 1000 n at its first voxel and noise in [0, 100) elsewhere, its label map n throughout."""
    items = []
    generator = np.random.default_rng(0)
    for number in range(subjects * files_per_subject):
        image = generator.integers(0, 100, (SIZE + number, SIZE, SIZE)).astype(np.int16)
        image[0, 0, 0] = 1000 * number
        item = {"image": f"{folder}/image{number}.nii", "subject": f"s{number // files_per_subject}"}
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), item["image"])
        if labels:
            item["label"] = f"{folder}/label{number}.nii"
            nibabel.save(nibabel.Nifti1Image(np.full_like(image, number), np.eye(4)), item["label"])
        items.append(item)
    return items


@pytest.fixture
def items(tmp_path):
    return write_volumes(tmp_path)


def load():
    return Compose([CheckedLoadImaged(("image", "label"), "label", allow_missing_keys=True)])


class RandDamaged(Randomizable, MapTransform):
    """Adds moving_transformed: moving plus a random number. In place on moving, if asked, as careless transforms do."""

    def __init__(self, in_place=False):
        MapTransform.__init__(self, "moving")
        self.in_place = in_place

    def __call__(self, data):
        shift = self.R.uniform(1, 2)
        item = dict(data)
        if self.in_place:
            item["moving"] += 1000
            item["fixed"].numpy()[:] = 0
        item["moving_transformed"] = item["moving"] + shift
        return item


NUMBERS = {"index", "moving_index", "fixed_index", "seed"}


def crop_and_damage():
    return Compose([RandRelativeCropd(PAIR_KEYS, 8, allow_missing_keys=True), RandDamaged()])


def make(items, pair_transform="default", seed=7, **arguments):
    pair_transform = crop_and_damage() if pair_transform == "default" else pair_transform
    return PairDataset(items, load(), pair_transform, seed, samples_per_epoch=10, progress=False, **arguments)


def equal(first, second):
    assert first.keys() == second.keys()
    texts = {key for key in first if isinstance(first[key], str)}
    same = all(torch.equal(torch.as_tensor(first[key]), torch.as_tensor(second[key])) for key in first.keys() - texts)
    return same and all(first[key] == second[key] for key in texts)


# ------------------------------------------------------------------------------------------------------ PairDataset


def test_sample(items):
    dataset = make(items)
    sample = dataset[3]
    assert set(sample) == {*PAIR_KEYS, "moving_transformed"} | NUMBERS
    for key in (*PAIR_KEYS, "moving_transformed"):
        assert type(sample[key]) is torch.Tensor and sample[key].shape == (1, 8, 8, 8), key
    assert sample["index"] == 3 and 0 <= sample["seed"] < 2**63
    shift = sample["moving_transformed"] - sample["moving"]
    assert 1 <= shift.min() and shift.max() - shift.min() < 1e-4  # moving itself is clean
    assert dataset.data == items and len(dataset) == 10 == len(list(dataset))


def test_a_subject_is_never_paired_with_itself_and_all_pairs_come(tmp_path):
    dataset = make(write_volumes(tmp_path, subjects=3, files_per_subject=2), None)
    counts = Counter()
    for index in range(600):
        sample = dataset[index]
        moving, fixed = (int(sample[key].max()) for key in ("moving_label", "fixed_label"))
        assert int(sample["moving"].max()) == max(1000 * moving, 99) and moving // 2 != fixed // 2
        counts[moving, fixed] += 1
    assert len(counts) == 6 * 4  # 25 each expected, standard deviation 5
    assert 8 < min(counts.values()) and max(counts.values()) < 45


def test_places_name_the_volumes(items):
    dataset = make(items, None)
    for index in range(20):
        sample = dataset[index]
        for side in ("moving", "fixed"):
            assert torch.equal(sample[side], dataset.volumes[sample[f"{side}_index"]]["image"].as_tensor())


def test_subjects_are_drawn_uniformly_whatever_their_number_of_files(items):
    items = items + [items[0] | {"image": items[0]["image"]}] * 6  # s0 has 7 volumes, s1, s2, s3 one
    dataset = make(items, None, cache_rate=0.0)
    subjects = [item["subject"] for item in items]
    counts = Counter()
    for seed in range(4000):
        moving, fixed = dataset.draw(np.random.default_rng(seed))
        counts[subjects[moving], subjects[fixed]] += 1
    assert len(counts) == 12 and all(abs(count - 4000 / 12) < 80 for count in counts.values())  # 80: 4.5 deviations


def test_sample_depends_on_seed_and_index_only(items):
    dataset = make(items)
    samples = {index: dataset[index] for index in (0, 5, 12, 10**12)}  # also far past the length
    again = make(items)
    for index in (10**12, 12, 5, 5, 0):
        assert equal(samples[index], again[index])
    thawed = pickle.loads(pickle.dumps(dataset))  # what a spawned worker gets
    assert equal(samples[5], thawed[5])
    assert len({sample["seed"] for sample in samples.values()}) == 4
    other = [make(items, seed=8)[index] for index in range(10)]
    same = [sum(equal(a, b) for a, b in zip(other, (d[i] for i in range(10)), strict=True)) for d in (again, dataset)]
    assert same == [0, 0]
    assert [s["moving_label"].max() for s in other] != [dataset[i]["moving_label"].max() for i in range(10)]


@pytest.mark.parametrize("cache", [{}, {"cache_rate": 0.5}, {"cache_dir": "cache"}])
def test_workers_order_and_cache_do_not_matter(items, tmp_path, cache):
    plain = make(items)
    if "cache_dir" in cache:
        cache = {"cache_dir": tmp_path / "cache"}
    dataset = make(items, num_workers=2, **cache)
    sampler = GlobalSampler(10)
    sampler.set_epoch(2)
    for num_workers in (0, 2):
        loader = DataLoader(dataset, batch_size=3, sampler=sampler, num_workers=num_workers)
        indices = []
        for batch in loader:
            for place, index in enumerate(batch["index"].tolist()):
                indices.append(index)
                assert equal(plain[index], {key: values[place] for key, values in batch.items()})
        assert indices == list(range(20, 30))


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_cached_volumes_are_not_modified(items, tmp_path, cache):
    cache_dir = tmp_path / "cache" if cache == "disk" else None
    dataset = make(items, RandDamaged(in_place=True), cache_dir=cache_dir)
    clean = make(items, None)
    before = [dataset[index] for index in range(6)]
    assert all(equal(before[index], dataset[index]) for index in range(6))
    for place in range(len(items)):
        assert torch.equal(dataset.volumes[place]["image"], clean.volumes[place]["image"])
    sample = clean[0]
    sample["moving"] += 1  # nor by who takes the sample
    assert not equal(sample, clean[0])


def test_without_copies_the_crop_protects_the_cache(items):
    pair_transform = Compose([RandRelativeCropd(PAIR_KEYS, 8), RandDamaged(in_place=True)])
    dataset = make(items, pair_transform, copy_cache=False)
    assert all(equal(a, b) for a, b in zip(list(dataset), list(dataset), strict=True))
    assert all(equal(a, b) for a, b in zip(dataset, make(items, pair_transform), strict=True))


def test_labels_only_where_all_have_them_and_they_are_loaded(items, caplog):
    images_only = Compose([CheckedLoadImaged("image")])
    assert "moving_label" not in PairDataset(items, images_only, None, 0, 1, progress=False)[0]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    del items[1]["label"]
    dataset = make(items, None)
    assert "3 of 4 volumes have labels" in caplog.text
    assert all(set(dataset[index]) == {"moving", "fixed"} | NUMBERS for index in range(10))
    assert "label" in dataset.data[0]


def test_constructor_errors(items):
    with pytest.raises(ValueError, match="4 volumes of 1 subjects .s0.: a pair needs two"):
        make([item | {"subject": "s0"} for item in items])
    with pytest.raises(ValueError, match="0 volumes of 0 subjects .none."):
        make([])
    with pytest.raises(ValueError, match="seed is -1"):
        make(items, seed=-1)
    with pytest.raises(ValueError, match="samples_per_epoch 0"):
        PairDataset(items, load(), None, 0, 0)
    random = [CheckedLoadImaged("image"), Compose([RandGaussianNoised("image"), RandRicianNoised("image")])]
    with pytest.raises(ValueError, match="transform must be deterministic, got RandGaussianNoised, RandRicianNoised"):
        PairDataset(items, random, None, 0, 1)
    with pytest.raises(IndexError, match="index is -1"):
        make(items)[-1]


def test_items_without_subject_are_their_own_subject(items):
    dataset = make([{"image": item["image"]} for item in items], None)
    assert all(not torch.equal(sample["moving"][:, :8], sample["fixed"][:, :8]) for sample in dataset)


# ------------------------------------------------------------------------------------------------------- bad volumes


def truncate(path):
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: len(content) // 2])


def test_all_bad_volumes_are_named_before_training(items):
    truncate(items[2]["image"])
    with pytest.raises(VolumeError, match="^\\S+image2.nii: cannot be read") as caught:
        make(items)
    assert isinstance(caught.value.__cause__, OSError)
    nibabel.save(nibabel.Nifti1Image(np.zeros((SIZE, SIZE, SIZE)), np.eye(4)), items[0]["image"])
    with pytest.raises(VolumeError, match="(?s)2 of 4 volumes cannot be used:.*image0.nii: a .*image2.nii: cannot"):
        make(items, num_workers=2)


def index_with(dataset, number):
    """The first pair that uses item `number` as its moving volume."""
    seeds = (pairs_module._seeds(dataset.seed, index)[0] for index in range(100))
    return next(index for index, generator in enumerate(seeds) if dataset.draw(generator)[0] == number)


@pytest.mark.parametrize("cache, num_workers", [("none", 2), ("disk", 0)])  # torch waits 5 s for a failed worker
def test_bad_volume_found_later_is_named_through_loader_workers(items, tmp_path, cache, num_workers):
    arguments = {"cache_rate": 0.0} if cache == "none" else {"cache_dir": tmp_path / "cache"}
    dataset = make(items, **arguments)
    truncate(items[2]["image"])
    loader = DataLoader(dataset, sampler=[index_with(dataset, 2)], num_workers=num_workers)
    with pytest.raises(VolumeError, match="image2.nii: cannot be read.*(Expected|damaged)"):
        next(iter(loader))


def test_other_preprocessing_errors_name_the_file_too(items):
    transform = Compose([CheckedLoadImaged("image"), ScaleIntensityd("image", minv="a")])
    with pytest.raises(VolumeError, match="image0.nii: preprocessing failed .TypeError: ") as caught:
        PairDataset(items, transform, None, 0, 1, progress=False)
    assert caught.value.__cause__ is not None
    dataset = PairDataset(items, transform, None, 0, 1, cache_rate=0.0)
    with pytest.raises(VolumeError, match=r"image\d.nii: preprocessing failed .TypeError: "):
        dataset[0]


def test_errors_of_pair_transforms_name_pair_and_files(items):
    dataset = make(items, RandRelativeCropd(("moving", "fixed"), 14))
    with pytest.raises(
        VolumeError, match=r"pair 4 .moving \S+image\d.nii, fixed \S+image\d.nii.: \w+ .*smaller than the crop"
    ):
        dataset[4]
    with pytest.raises(RuntimeError, match=r"pair 4 .moving \S+image\d.nii.*: .*nothing"):
        make(items, RandRelativeCropd("nothing", 8))[4]


# --------------------------------------------------------------------------------------------------- cache on disk


def count_loads(monkeypatch):
    loads = []
    original = CheckedLoadImaged.__call__
    monkeypatch.setattr(
        CheckedLoadImaged, "__call__", lambda self, data: loads.append(data["image"]) or original(self, data)
    )
    return loads


def test_disk_cache_is_used_until_file_or_transform_change(items, tmp_path, monkeypatch):
    loads = count_loads(monkeypatch)
    dataset = make(items, None, cache_dir=tmp_path / "cache")
    first = [dataset.volumes[place] for place in range(4)]
    assert len(loads) == 4 and not list((tmp_path / "cache").glob(".*"))
    again = make(items, None, cache_dir=tmp_path / "cache")
    assert all(torch.equal(again.volumes[place]["image"], first[place]["image"]) for place in range(4))
    assert len(loads) == 4
    image = np.random.default_rng(1).random((SIZE, SIZE, SIZE)).astype(np.float32)
    for key in ("image", "label"):
        nibabel.save(nibabel.Nifti1Image(np.round(image * 9), np.eye(4)), items[1][key])
    changed = [again.volumes[place]["image"] for place in range(4)]
    assert loads[4:] == [items[1]["image"]] and changed[1].max() <= 9
    transform = Compose([CheckedLoadImaged("image"), ScaleIntensityd("image", 0, 1)])
    for maximum in (1, 2):
        transform = Compose([CheckedLoadImaged("image"), ScaleIntensityd("image", 0, maximum)])
        scaled = PairDataset(items, transform, None, 0, 1, cache_dir=tmp_path / "cache").volumes[0]["image"]
        assert scaled.max() == maximum


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04", [1], {"label": 1}], ids=str)
def test_a_damaged_cache_file_is_made_again_with_a_warning(items, tmp_path, content, caplog):
    first = make(items, None, cache_dir=tmp_path / "cache").volumes[1]["image"]
    (file,) = (tmp_path / "cache").glob("*.pt")
    before = file.read_bytes()
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    again = make(items, None, cache_dir=tmp_path / "cache").volumes[1]["image"]
    assert torch.equal(again, first) and file.read_bytes() == before
    assert f"the cache file {file} is damaged (" in caplog.text and items[1]["image"] in caplog.text


def test_interrupted_write_leaves_no_partial_cache_file(items, tmp_path, monkeypatch):
    dataset = make(items, None, cache_dir=tmp_path / "cache")

    def partial_save(obj, file):
        file.write(b"PK partial")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", partial_save)
        with pytest.raises(KeyboardInterrupt):
            dataset[0]
    assert not list((tmp_path / "cache").iterdir())
    assert equal(dataset[0], make(items, None)[0])


def test_a_cache_on_a_full_disk_is_named(items, tmp_path, monkeypatch):
    """It is no fault of the volume, so that the error is no VolumeError."""

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    dataset = make(items, None, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        OSError, match=r"cache/\w+\.pt: the preprocessed volume cannot be written \(No space left"
    ) as caught:
        dataset[0]
    assert caught.value.errno == errno.ENOSPC and not list((tmp_path / "cache").iterdir())


# ------------------------------------------------------------------------------------------------- FixedPairDataset


def test_fixed_pairs_are_loaded_once_each(items, monkeypatch):
    loads = count_loads(monkeypatch)
    centre = [SpatialPadd(("image", "label"), 14), CenterSpatialCropd(("image", "label"), 14)]
    data = fixed_pairs(items, 12, seed=0)
    dataset = FixedPairDataset(data, Compose([load(), *centre]), seed=7, progress=False)
    assert sorted(loads) == [item["image"] for item in items]
    assert len(dataset) == 12 == len(list(dataset)) and dataset.data == data
    for index, (pair, sample) in enumerate(zip(data, dataset, strict=True)):
        assert set(sample) == {*PAIR_KEYS, "moving_transformed", "index", "seed", "moving_file", "fixed_file"}
        assert sample["moving_file"] == data[index]["moving"] and sample["index"] == index
        for key in PAIR_KEYS:
            assert type(sample[key]) is torch.Tensor and sample[key].shape == (1, 14, 14, 14)
            number = int(pair[key].split(".nii")[0][-1])
            assert int(sample[f"{key.split('_')[0]}_label"].max()) == number
        assert torch.equal(sample["moving"], sample["moving_transformed"])
    sample["moving"] += 1
    sample["moving_transformed"] += 1
    assert not torch.equal(sample["moving"], dataset[11]["moving"])
    assert len(loads) == 4
    random_pairs = make(items)
    assert [sample["seed"] for sample in dataset] == [random_pairs[index]["seed"] for index in range(12)]
    batch = next(iter(DataLoader(dataset, batch_size=4)))
    assert batch["moving"].shape == (4, 1, 14, 14, 14)


def test_fixed_pairs_with_some_labels(items):
    del items[3]["label"]
    pairs = fixed_pairs(items, 12, seed=0)
    for sample, pair in zip(FixedPairDataset(pairs, load(), progress=False), pairs, strict=True):
        assert ("moving_label" in sample) == ("s3" not in (pair["moving_subject"], pair["fixed_subject"]))


def test_damage_of_fixed_pairs_is_theirs_for_good(items):
    data = fixed_pairs(items, 3, seed=0)
    dataset, again = (FixedPairDataset(data, load(), RandDamaged(), seed=7, progress=False) for _ in range(2))
    shifts = [float((sample["moving_transformed"] - sample["moving"]).mean()) for sample in dataset]
    assert all(equal(dataset[index], again[index]) for index in (2, 0, 1))
    assert len({round(shift, 3) for shift in shifts}) == 3 and min(shifts) >= 1  # not one draw for all


def test_fixed_pair_errors(items):
    with pytest.raises(ValueError, match="0 pairs"):
        FixedPairDataset([], load())
    with pytest.raises(ValueError, match="pair of a.nii with itself"):
        FixedPairDataset([{"moving": "a.nii", "fixed": "a.nii"}], load())
    data = fixed_pairs(items, 2, seed=0)
    with pytest.raises(IndexError, match="index is 2, expected 0 to 1"):
        FixedPairDataset(data, load(), progress=False)[2]
    truncate(data[0]["fixed"])
    with pytest.raises(VolumeError, match=f"{Path(data[0]['fixed']).name}: cannot be read"):
        FixedPairDataset(data, load(), progress=False)


def test_errors_of_transforms_of_fixed_pairs_name_pair_and_files(items):
    data = fixed_pairs(items, 2, seed=0)
    files = re.escape(f"pair 1 (moving {data[1]['moving']}, fixed {data[1]['fixed']}): ")
    with pytest.raises(VolumeError, match=files + ".*smaller than the crop"):
        FixedPairDataset(data, load(), RandRelativeCropd(("moving", "fixed"), 14), progress=False)[1]
    with pytest.raises(RuntimeError, match=files + ".*nothing"):
        FixedPairDataset(data, load(), RandRelativeCropd("nothing", 8), progress=False)[1]


# ------------------------------------------------------------------------------------------------------- real data


def test_real_chest_ct():
    if not (SHARED / "chest_ct").is_dir():
        pytest.skip("../shared/data/chest_ct is absent")
    items = find_volumes(SHARED / "chest_ct")[:2]
    crop = RandRelativeCropd(("moving", "fixed"), 64)
    sample = PairDataset(
        items, Compose([CheckedLoadImaged("image")]), crop, seed=0, samples_per_epoch=1, progress=False
    )[0]
    assert sample["moving"].shape == sample["fixed"].shape == (1, 64, 64, 64)
    assert not torch.equal(sample["moving"], sample["fixed"]) and not isinstance(sample["moving"], MetaTensor)


def test_real_hippocampus_with_labels():
    if not (SHARED / "hippocampus").is_dir():
        pytest.skip("../shared/data/hippocampus is absent")
    items = find_volumes(SHARED / "hippocampus")[:4]
    sample = make(items, RandRelativeCropd(PAIR_KEYS, 24))[0]
    for key in ("moving_label", "fixed_label"):
        assert set(sample[key].unique().tolist()) <= {0, 1, 2} and sample[key].max() > 0
