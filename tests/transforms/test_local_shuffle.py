# SPDX-License-Identifier: Apache-2.0
"""Local shuffling: judged by a naive loop, at every size, in a worker process, without touching its input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch.utils.data import DataLoader, Dataset

from custom.transforms import RandLocalShuffle, RandLocalShuffled
from custom.transforms.local_shuffle import shuffle_box_size


def distinct_volume(*spatial_shape: int) -> np.ndarray:
    """Every voxel has a value of its own, so that a moved voxel shows."""
    count = np.prod(spatial_shape)
    return (np.random.RandomState(0).permutation(count) / count).astype(np.float32).reshape(1, *spatial_shape)


def make(seed: int = 0, **arguments) -> RandLocalShuffle:
    return RandLocalShuffle(prob=1.0, **arguments).set_random_state(seed)


def test_one_box_is_permuted_and_nothing_else_changes():
    volume = distinct_volume(40, 60, 20)
    shuffled = make(density=1e-9)(volume)
    changed = np.argwhere(shuffled[0] != volume[0])
    low, high = changed.min(0), changed.max(0) + 1
    # Floor of a twentieth of (40, 60, 20) is (2, 3, 1); one voxel would be no shuffling, so it becomes two.
    assert shuffle_box_size((40, 60, 20), 0.05) == (2, 3, 2)
    assert (high - low <= (2, 3, 2)).all()
    box = (0, *(slice(a, b) for a, b in zip(low, high, strict=True)))
    assert sorted(shuffled[box].ravel()) == sorted(volume[box].ravel())


def test_equals_a_naive_loop_where_the_later_box_wins():
    volume = distinct_volume(12, 10, 9)
    transform = make(density=3.0)
    shuffled = transform(volume)
    naive = volume[0].copy()
    for target, source in zip(transform.target, transform.source, strict=True):
        naive[np.unravel_index(target, naive.shape)] = volume[0][np.unravel_index(source, naive.shape)]
    np.testing.assert_array_equal(shuffled[0], naive)


def test_boxes_are_boxes_with_independent_permutations():
    transform = make()
    transform.randomize((1, 60, 80, 60))
    size = (3, 4, 3)
    target, source = transform.target.reshape(-1, 36), transform.source.reshape(-1, 36)
    assert len(target) == round(0.515 * 60 * 80 * 60 / 36)
    inside = np.stack(np.unravel_index(target, (60, 80, 60)), axis=-1)
    assert (np.ptp(inside, axis=1) == np.array(size) - 1).all()
    np.testing.assert_array_equal(np.sort(target, axis=1), np.sort(source, axis=1))
    order = source - target[:, :1]
    assert len(np.unique(order, axis=0)) == len(order)
    # Both ends of each axis are reached: the boxes of the authors never touch the last voxel.
    assert (inside.reshape(-1, 3).min(0) == 0).all() and (inside.reshape(-1, 3).max(0) == (59, 79, 59)).all()


@pytest.mark.parametrize("side", [8, 12, 16, 20, 31, 39, 40, 48, 64, 96, 128])
def test_is_never_a_silent_no_op(side):
    volume = distinct_volume(side, side, side)
    changed = (make()(volume) != volume).mean()
    # 1 - exp(-0.515) = 0.40 of the voxels are in a box; 1 of 8 stays where it is in boxes of 2^3.
    assert 0.25 < changed < 0.45


def test_the_authors_number_of_boxes():
    transform = make()
    transform.randomize((1, 128, 128, 128))
    assert abs(transform.target.size / 6**3 - 5000) < 10


@pytest.mark.parametrize("kind", ["numpy", "fortran", "torch", "metatensor"])
def test_input_is_kept_and_type_returned(kind):
    volume = distinct_volume(20, 16, 12)
    image = {
        "numpy": lambda: volume.copy(),
        "fortran": lambda: np.asfortranarray(volume),
        "torch": lambda: torch.from_numpy(volume.copy()),
        "metatensor": lambda: MetaTensor(volume.copy(), affine=torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0]))),
    }[kind]()
    shuffled = make()(image)
    np.testing.assert_array_equal(np.asarray(image), volume)
    assert type(shuffled) is type(image) and shuffled.dtype == image.dtype and shuffled.shape == image.shape
    np.testing.assert_array_equal(np.asarray(shuffled), make()(volume))
    if kind == "metatensor":
        torch.testing.assert_close(shuffled.affine, image.affine)


def test_seed_decides_and_prob_counts():
    volume = distinct_volume(16, 16, 16)
    np.testing.assert_array_equal(make(3)(volume), make(3)(volume))
    assert (make(3)(volume) != make(4)(volume)).any()
    transform = RandLocalShuffle().set_random_state(0)
    applied = sum((transform(volume) != volume).any() for _ in range(500))
    assert 360 < applied < 440


def test_dictionary_version():
    volume = distinct_volume(16, 16, 16)
    data = {"a": volume, "b": torch.from_numpy(volume.copy()), "other": volume}
    result = RandLocalShuffled(keys=["a", "b"], prob=1.0).set_random_state(1)(data)
    np.testing.assert_array_equal(result["a"], make(1)(volume))
    np.testing.assert_array_equal(result["a"], result["b"].numpy())
    assert result["other"] is volume and data["a"] is volume and (result["a"] != volume).any()
    with pytest.raises(KeyError, match="missing"):
        RandLocalShuffled(keys="missing")(data)
    assert RandLocalShuffled(keys="missing", allow_missing_keys=True)(data).keys() == data.keys()


@pytest.mark.parametrize("arguments", [{"density": 0}, {"box_fraction": 0}, {"box_fraction": 1.5}])
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        RandLocalShuffle(**arguments)


class Shuffled(Dataset):
    """Item i is a volume shuffled with seed i."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        return make(index)(torch.from_numpy(distinct_volume(24, 20, 16)))


def test_same_in_a_worker_process():
    here, there = (torch.cat(list(DataLoader(Shuffled(), num_workers=workers))) for workers in (0, 1))
    assert torch.equal(here, there)
