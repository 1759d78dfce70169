# SPDX-License-Identifier: Apache-2.0
"""Out-painting: number, size and place of the boxes that stay, the noise around them, an input that stays as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch.utils.data import DataLoader, Dataset

from custom.transforms import RandOutPainting, RandOutPaintingd


def make(seed: int = 0, **arguments) -> RandOutPainting:
    return RandOutPainting(prob=1.0, **arguments).set_random_state(seed)


def background(*spatial_shape: int) -> np.ndarray:
    """A value that noise in [0, 1] cannot have, so that every kept voxel shows."""
    return np.full((1, *spatial_shape), 2, dtype=np.float32)


def test_a_single_box_stays_and_everything_else_is_noise():
    sides = set()
    for seed in range(300):
        painted = make(seed, next_box_prob=0.0)(background(28, 42, 14))[0]
        kept = np.argwhere(painted == 2)
        extent = kept.max(0) - kept.min(0) + 1
        assert len(kept) == extent.prod(), "the kept voxels are one full box"
        assert painted[painted != 2].max() <= 1
        sides.add(tuple(extent))
    # Three to four sevenths of (28, 42, 14), both ends included.
    for axis, (low, high) in enumerate([(12, 16), (18, 24), (6, 8)]):
        assert {extent[axis] for extent in sides} == set(range(low, high + 1))


def test_kept_voxels_are_those_of_the_same_place():
    volume = 2 + np.random.default_rng(0).random((1, 14, 10, 12), dtype=np.float32)
    transform = make()
    painted = transform(volume)
    kept = np.zeros(volume.shape, dtype=bool)
    for place in np.ndindex(14, 10, 12):
        kept[(0, *place)] = any(
            all(extent.start <= index < extent.stop for extent, index in zip(box, place, strict=True))
            for box in transform.boxes
        )
    np.testing.assert_array_equal(painted, np.where(kept, volume, transform.noise))


def test_boxes_reach_every_border():
    kept = np.zeros((14, 14, 14), dtype=bool)
    for seed in range(100):
        kept |= make(seed)(background(14, 14, 14))[0] == 2
    assert kept.mean() > 0.9
    for axis in range(3):
        assert kept.take(0, axis).any() and kept.take(-1, axis).any()


def test_noise_is_uniform_and_fresh_in_every_voxel():
    painted = make(next_box_prob=0.0)(background(64, 64, 64))
    noise = painted[painted != 2]
    assert noise.min() >= 0 and noise.max() <= 1
    assert np.abs(np.histogram(noise, 10, (0, 1))[0] / noise.size - 0.1).max() < 0.01
    assert len(np.unique(noise)) > 0.95 * noise.size


def test_number_of_boxes_and_share_that_stays():
    transform = make()
    counts, shares = [], []
    for _ in range(1000):
        transform.randomize((14, 14, 14))
        counts.append(len(transform.boxes))
        shares.append((transform(background(14, 14, 14), randomize=False) == 2).mean())
    # The first is certain, each further one has 0.95: the mean is the sum of 0.95^k for k = 0 to 4, 4.52.
    assert min(counts) == 1 and max(counts) == 5
    assert np.mean(counts) == pytest.approx((1 - 0.95**5) / 0.05, abs=0.1)
    # One box holds an eighth on average, five hold less than five eighths: more than a third is always painted.
    single = np.array(shares)[np.array(counts) == 1]
    assert np.mean(single) == pytest.approx(1 / 8, abs=0.02)
    assert 0.3 < np.mean(shares) < 0.6


@pytest.mark.parametrize("side", [1, 2, 4, 8, 9])
def test_small_volumes(side):
    painted = make()(background(side, side, side))
    assert (painted == 2).any() and painted.shape == (1, side, side, side)


@pytest.mark.parametrize("kind", ["numpy", "torch", "metatensor"])
def test_input_is_kept_and_type_returned(kind):
    volume = background(16, 20, 12)
    image = {"numpy": np.array, "torch": torch.tensor, "metatensor": MetaTensor}[kind](volume)
    painted = make()(image)
    np.testing.assert_array_equal(np.asarray(image), volume)
    assert type(painted) is type(image) and painted.dtype == image.dtype
    np.testing.assert_array_equal(np.asarray(painted), make()(volume))


def test_channels_share_boxes_and_noise():
    painted = make()(np.repeat(background(12, 12, 12), 2, axis=0))
    np.testing.assert_array_equal(painted[0], painted[1])


def test_seed_decides_and_prob_counts():
    volume = background(12, 12, 12)
    np.testing.assert_array_equal(make(3)(volume), make(3)(volume))
    assert (make(3)(volume) != make(4)(volume)).any()
    transform = RandOutPainting().set_random_state(0)
    applied = sum((transform(volume) != volume).any() for _ in range(500))
    assert 425 < applied < 475


def test_dictionary_version():
    volume = background(16, 16, 16)
    data = {"a": volume, "b": torch.from_numpy(volume.copy()), "other": volume}
    result = RandOutPaintingd(keys=["a", "b"], prob=1.0).set_random_state(1)(data)
    np.testing.assert_array_equal(result["a"], make(1)(volume))
    np.testing.assert_array_equal(result["a"], result["b"].numpy())
    assert result["other"] is volume and data["a"] is volume and (volume == 2).all()
    with pytest.raises(KeyError, match="missing"):
        RandOutPaintingd(keys="missing")(data)
    assert RandOutPaintingd(keys="missing", allow_missing_keys=True)(data).keys() == data.keys()


def test_dictionary_version_passes_its_arguments_on():
    arguments = {"max_boxes": 3, "box_fraction": (0.2, 0.4), "next_box_prob": 1.0}
    volume = background(16, 16, 16)
    result = RandOutPaintingd(keys="a", prob=1.0, **arguments).set_random_state(1)({"a": volume})
    np.testing.assert_array_equal(result["a"], make(1, **arguments)(volume))


@pytest.mark.parametrize(
    "arguments", [{"max_boxes": 0}, {"box_fraction": (0.3, 0.2)}, {"box_fraction": (0, 0.2)}, {"next_box_prob": 2}]
)
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        RandOutPainting(**arguments)


def test_integer_images_are_refused():
    with pytest.raises(TypeError, match="uint8"):
        make()(np.zeros((1, 8, 8, 8), dtype=np.uint8))


class Painted(Dataset):
    """Item i is a volume painted with seed i."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        return make(index)(torch.from_numpy(background(24, 20, 16)))


def test_same_in_a_worker_process():
    here, there = (torch.cat(list(DataLoader(Painted(), num_workers=workers))) for workers in (0, 1))
    assert torch.equal(here, there)
