# SPDX-License-Identifier: Apache-2.0
"""In- and out-painting: number, size and place of the boxes, the noise in or around them, an input that stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch.utils.data import DataLoader, Dataset

from custom.transforms import RandInPainting, RandInPaintingd, RandOutPainting, RandOutPaintingd
from custom.transforms.painting import RandPainting


def background(*spatial_shape: int) -> np.ndarray:
    """A value that noise in [0, 1] cannot have, so that every voxel shows whether it was painted."""
    return np.full((1, *spatial_shape), 2, dtype=np.float32)


class Painted(Dataset):
    """Item i is a volume painted with seed i."""

    def __init__(self, kind: type[RandPainting]) -> None:
        self.kind = kind

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.kind(prob=1.0).set_random_state(index)(torch.from_numpy(background(24, 20, 16)))


class PaintingTests:
    """What both promise."""

    kind: type[RandPainting]
    keyed: type
    side: int  # of a volume for the statistics of the boxes
    applied: tuple[int, int]  # limits of the times that 500 calls with the default `prob` change something
    single: tuple[tuple[int, int, int], list[tuple[int, int]]]  # a shape, shortest and longest side of a box along it

    def make(self, seed: int = 0, **arguments) -> RandPainting:
        return self.kind(prob=1.0, **arguments).set_random_state(seed)

    @staticmethod
    def boxed(painted: np.ndarray) -> np.ndarray:
        """Which voxels of a painted background are in a box."""
        raise NotImplementedError

    def test_a_single_box_and_nothing_else(self):
        shape, limits = self.single
        sides = set()
        for seed in range(300):
            painted = self.make(seed, next_box_prob=0.0)(background(*shape))[0]
            inside = np.argwhere(self.boxed(painted))
            extent = inside.max(0) - inside.min(0) + 1
            assert len(inside) == extent.prod(), "the voxels are one full box"
            assert painted[painted != 2].max() <= 1
            sides.add(tuple(extent))
        for axis, (low, high) in enumerate(limits):
            assert {extent[axis] for extent in sides} == set(range(low, high + 1))

    def test_boxes_reach_every_border(self):
        touched = np.zeros((self.side,) * 3, dtype=bool)
        for seed in range(100):
            touched |= self.boxed(self.make(seed)(background(*touched.shape))[0])
        assert touched.mean() > 0.9
        for axis in range(3):
            assert touched.take(0, axis).any() and touched.take(-1, axis).any()

    @pytest.mark.parametrize("side", [1, 2, 4, 8, 9])
    def test_small_volumes(self, side):
        painted = self.make()(background(side, side, side))
        assert self.boxed(painted).any() and painted.shape == (1, side, side, side)

    @pytest.mark.parametrize("kind", ["numpy", "torch", "metatensor"])
    def test_input_is_kept_and_type_returned(self, kind):
        volume = background(16, 20, 12)
        image = {"numpy": np.array, "torch": torch.tensor, "metatensor": MetaTensor}[kind](volume)
        painted = self.make()(image)
        np.testing.assert_array_equal(np.asarray(image), volume)
        assert type(painted) is type(image) and painted.dtype == image.dtype
        np.testing.assert_array_equal(np.asarray(painted), self.make()(volume))

    def test_channels_share_boxes_and_noise(self):
        painted = self.make()(np.repeat(background(12, 12, 12), 2, axis=0))
        np.testing.assert_array_equal(painted[0], painted[1])

    def test_seed_decides_and_prob_counts(self):
        volume = background(12, 12, 12)
        np.testing.assert_array_equal(self.make(3)(volume), self.make(3)(volume))
        assert (self.make(3)(volume) != self.make(4)(volume)).any()
        transform = self.kind().set_random_state(0)
        applied = sum((transform(volume) != volume).any() for _ in range(500))
        assert self.applied[0] < applied < self.applied[1]

    def test_dictionary_version(self):
        volume = background(16, 16, 16)
        data = {"a": volume, "b": torch.from_numpy(volume.copy()), "other": volume}
        result = self.keyed(keys=["a", "b"], prob=1.0).set_random_state(1)(data)
        np.testing.assert_array_equal(result["a"], self.make(1)(volume))
        np.testing.assert_array_equal(result["a"], result["b"].numpy())
        assert result["other"] is volume and data["a"] is volume and (volume == 2).all()
        with pytest.raises(KeyError, match="missing"):
            self.keyed(keys="missing")(data)
        assert self.keyed(keys="missing", allow_missing_keys=True)(data).keys() == data.keys()

    def test_dictionary_version_passes_its_arguments_on(self):
        arguments = {"max_boxes": 3, "box_fraction": (0.2, 0.4), "next_box_prob": 1.0}
        volume = background(16, 16, 16)
        result = self.keyed(keys="a", prob=1.0, **arguments).set_random_state(1)({"a": volume})
        np.testing.assert_array_equal(result["a"], self.make(1, **arguments)(volume))

    @pytest.mark.parametrize(
        "arguments", [{"max_boxes": 0}, {"box_fraction": (0.3, 0.2)}, {"box_fraction": (0, 0.2)}, {"next_box_prob": 2}]
    )
    def test_bad_arguments(self, arguments):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            self.kind(**arguments)

    def test_integer_images_are_refused(self):
        with pytest.raises(TypeError, match="uint8"):
            self.make()(np.zeros((1, 8, 8, 8), dtype=np.uint8))

    def test_same_in_a_worker_process(self):
        here, there = (torch.cat(list(DataLoader(Painted(self.kind), num_workers=workers))) for workers in (0, 1))
        assert torch.equal(here, there)


class TestInPainting(PaintingTests):
    kind, keyed, side, applied = RandInPainting, RandInPaintingd, 20, (455, 495)
    single = (40, 60, 20), [(4, 8), (6, 12), (2, 4)]  # a tenth to a fifth, both ends included

    @staticmethod
    def boxed(painted: np.ndarray) -> np.ndarray:
        return painted != 2

    def test_noise_is_uniform_and_fresh_in_every_box(self):
        transform = self.make(max_boxes=30, next_box_prob=1.0)
        painted = transform(background(64, 64, 64))
        noise = painted[painted != 2]
        assert noise.min() >= 0 and noise.max() <= 1
        assert np.abs(np.histogram(noise, 10, (0, 1))[0] / noise.size - 0.1).max() < 0.01
        assert len({block.ravel()[0] for block in transform.noise}) == 30

    def test_number_of_boxes(self):
        transform = self.make()
        counts = []
        for _ in range(2000):
            transform.randomize((1, 20, 20, 20))
            counts.append(len(transform.boxes))
        # The first is certain, each further one has 0.95: the mean is the sum of 0.95^k for k = 0 to 29, 15.7.
        assert min(counts) == 1 and max(counts) == 30
        assert np.mean(counts) == pytest.approx((1 - 0.95**30) / 0.05, abs=0.8)
        assert np.mean(np.array(counts) == 1) == pytest.approx(0.05, abs=0.02)


class TestOutPainting(PaintingTests):
    kind, keyed, side, applied = RandOutPainting, RandOutPaintingd, 14, (425, 475)
    single = (28, 42, 14), [(12, 16), (18, 24), (6, 8)]  # three to four sevenths, both ends included

    @staticmethod
    def boxed(painted: np.ndarray) -> np.ndarray:
        return painted == 2

    def test_kept_voxels_are_those_of_the_same_place(self):
        volume = 2 + np.random.default_rng(0).random((1, 14, 10, 12), dtype=np.float32)
        transform = self.make()
        painted = transform(volume)
        kept = np.zeros(volume.shape, dtype=bool)
        for place in np.ndindex(14, 10, 12):
            kept[(0, *place)] = any(
                all(extent.start <= index < extent.stop for extent, index in zip(box, place, strict=True))
                for box in transform.boxes
            )
        np.testing.assert_array_equal(painted, np.where(kept, volume, transform.noise))

    def test_noise_is_uniform_and_fresh_in_every_voxel(self):
        painted = self.make(next_box_prob=0.0)(background(64, 64, 64))
        noise = painted[painted != 2]
        assert noise.min() >= 0 and noise.max() <= 1
        assert np.abs(np.histogram(noise, 10, (0, 1))[0] / noise.size - 0.1).max() < 0.01
        assert len(np.unique(noise)) > 0.95 * noise.size

    def test_number_of_boxes_and_share_that_stays(self):
        transform = self.make()
        counts, shares = [], []
        for _ in range(1000):
            transform.randomize((1, 14, 14, 14))
            counts.append(len(transform.boxes))
            shares.append((transform(background(14, 14, 14), randomize=False) == 2).mean())
        # The first is certain, each further one has 0.95: the mean is the sum of 0.95^k for k = 0 to 4, 4.52.
        assert min(counts) == 1 and max(counts) == 5
        assert np.mean(counts) == pytest.approx((1 - 0.95**5) / 0.05, abs=0.1)
        # One box holds an eighth on average, five hold less than five eighths: more than a third is always painted.
        single = np.array(shares)[np.array(counts) == 1]
        assert np.mean(single) == pytest.approx(1 / 8, abs=0.02)
        assert 0.3 < np.mean(shares) < 0.6
