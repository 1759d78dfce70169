# SPDX-License-Identifier: Apache-2.0
"""In-painting: number, size, place and content of the boxes, and an input that stays as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch.utils.data import DataLoader, Dataset

from custom.transforms import RandInPainting, RandInPaintingd


def make(seed: int = 0, **arguments) -> RandInPainting:
    return RandInPainting(prob=1.0, **arguments).set_random_state(seed)


def background(*spatial_shape: int) -> np.ndarray:
    """A value that noise in [0, 1] cannot have, so that every painted voxel shows."""
    return np.full((1, *spatial_shape), 2, dtype=np.float32)


def test_a_single_box_is_filled_and_nothing_else_changes():
    sides = set()
    for seed in range(200):
        painted = make(seed, next_box_prob=0.0)(background(40, 60, 20))[0]
        inside = np.argwhere(painted != 2)
        extent = inside.max(0) - inside.min(0) + 1
        assert len(inside) == extent.prod(), "the changed voxels are one full box"
        sides.add(tuple(extent))
    # A tenth to a fifth of (40, 60, 20), both ends included.
    for axis, (low, high) in enumerate([(4, 8), (6, 12), (2, 4)]):
        assert {extent[axis] for extent in sides} == set(range(low, high + 1))


def test_boxes_reach_every_border():
    touched = np.zeros((20, 20, 20), dtype=bool)
    for seed in range(100):
        touched |= make(seed)(background(20, 20, 20))[0] != 2
    assert touched.mean() > 0.9
    for axis in range(3):
        assert touched.take(0, axis).any() and touched.take(-1, axis).any()


def test_noise_is_uniform_and_fresh_in_every_box():
    transform = make(max_boxes=30, next_box_prob=1.0)
    painted = transform(background(64, 64, 64))
    noise = painted[painted != 2]
    assert noise.min() >= 0 and noise.max() <= 1
    assert np.abs(np.histogram(noise, 10, (0, 1))[0] / noise.size - 0.1).max() < 0.01
    assert len({block.ravel()[0] for block in transform.noise}) == 30


def test_number_of_boxes():
    transform = make()
    counts = []
    for _ in range(2000):
        transform.randomize((20, 20, 20))
        counts.append(len(transform.boxes))
    # The first is certain, each further one has 0.95: the mean is the sum of 0.95^k for k = 0 to 29, 15.7.
    assert min(counts) == 1 and max(counts) == 30
    assert np.mean(counts) == pytest.approx((1 - 0.95**30) / 0.05, abs=0.8)
    assert np.mean(np.array(counts) == 1) == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize("side", [1, 2, 4, 8, 9])
def test_small_volumes(side):
    painted = make()(background(side, side, side))
    assert (painted != 2).any() and painted.shape == (1, side, side, side)


@pytest.mark.parametrize("kind", ["numpy", "torch", "metatensor"])
def test_input_is_kept_and_type_returned(kind):
    volume = background(16, 20, 12)
    image = {"numpy": np.array, "torch": torch.tensor, "metatensor": MetaTensor}[kind](volume)
    painted = make()(image)
    np.testing.assert_array_equal(np.asarray(image), volume)
    assert type(painted) is type(image) and painted.dtype == image.dtype
    np.testing.assert_array_equal(np.asarray(painted), make()(volume))


def test_seed_decides_and_prob_counts():
    volume = background(12, 12, 12)
    np.testing.assert_array_equal(make(3)(volume), make(3)(volume))
    assert (make(3)(volume) != make(4)(volume)).any()
    transform = RandInPainting().set_random_state(0)
    applied = sum((transform(volume) != volume).any() for _ in range(500))
    assert 455 < applied < 495


def test_dictionary_version():
    volume = background(16, 16, 16)
    data = {"a": volume, "b": torch.from_numpy(volume.copy()), "other": volume}
    result = RandInPaintingd(keys=["a", "b"], prob=1.0).set_random_state(1)(data)
    np.testing.assert_array_equal(result["a"], make(1)(volume))
    np.testing.assert_array_equal(result["a"], result["b"].numpy())
    assert result["other"] is volume and data["a"] is volume and (volume == 2).all()
    with pytest.raises(KeyError, match="missing"):
        RandInPaintingd(keys="missing")(data)
    assert RandInPaintingd(keys="missing", allow_missing_keys=True)(data).keys() == data.keys()


@pytest.mark.parametrize(
    "arguments", [{"max_boxes": 0}, {"box_fraction": (0.3, 0.2)}, {"box_fraction": (0, 0.2)}, {"next_box_prob": 2}]
)
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        RandInPainting(**arguments)


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
