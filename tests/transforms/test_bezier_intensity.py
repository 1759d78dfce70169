# SPDX-License-Identifier: Apache-2.0
"""Bézier intensity: judged by solving x(t) = x, monotone, clamped, and the same in a worker process."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.interpolate import BPoly
from scipy.optimize import brentq
from torch.utils.data import DataLoader, Dataset

from custom.transforms import RandBezierIntensity, RandBezierIntensityd
from custom.transforms.bezier_intensity import _look_up, bezier_table


def make(seed: int = 0, **arguments) -> RandBezierIntensity:
    return RandBezierIntensity(prob=1.0, **arguments).set_random_state(seed)


def ramp(count: int = 4096) -> np.ndarray:
    return np.linspace(0, 1, count, dtype=np.float32).reshape(1, 16, 16, -1)


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_bezier_curve_solved_for_x(seed):
    transform = make(seed)
    mapped = transform(ramp()).ravel()
    ((control_points, _),) = transform.curves
    curve_x, curve_y = (BPoly(np.array([0, *control_points[:, axis], 1])[:, None], [0, 1]) for axis in (0, 1))
    for index in range(0, 4096, 89):
        x = index / 4095
        t = brentq(lambda t, x=x: curve_x(t) - x, 0, 1, xtol=1e-14)
        assert abs(mapped[index] - curve_y(t)) < 1e-3


def test_hand_worked_case():
    # Control points on the diagonal at thirds make x(t) = y(t) = t; (0, 1), (0, 1) at t = 1/2 gives (1/8, 7/8).
    np.testing.assert_allclose(bezier_table(np.array([[1, 1], [2, 2]]) / 3), np.linspace(0, 1, 1024), atol=1e-6)
    table = bezier_table(np.array([[0, 1], [0, 1]]))
    assert np.interp(1 / 8, np.linspace(0, 1, 1024), table) == pytest.approx(7 / 8, abs=1e-4)


def test_monotone_from_0_to_1_for_the_most_bent_curves():
    corners = [[a, b] for a in (0.0, 1.0) for b in (0.0, 1.0)]
    for first in corners:
        for second in corners:
            table = bezier_table(np.array([first, second]))
            assert table[0] == 0 and table[-1] == 1 and (np.diff(table) >= 0).all()
    for seed in range(50):
        mapped = make(seed)(ramp()).ravel()
        assert (np.diff(mapped) >= -1e-7).all() and mapped.min() >= 0 and mapped.max() <= 1


def test_look_up_equals_interp():
    table = bezier_table(np.array([[0.1, 0.9], [0.3, 0.4]]))
    values = np.random.RandomState(0).random_sample(10_000).astype(np.float32)
    np.testing.assert_allclose(_look_up(values, table), np.interp(values, np.linspace(0, 1, 1024), table), atol=1e-6)


def test_values_outside_are_clamped():
    volume = np.array([-3.0, -1e-6, 0.0, 1.0, 1 + 1e-6, 7.0], dtype=np.float32).reshape(1, 1, 1, 6)
    np.testing.assert_array_equal(make()(volume).ravel(), [0, 0, 0, 1, 1, 1])


def test_inversion_is_an_option():
    np.testing.assert_allclose(make(2, invert_prob=1.0)(ramp()), 1 - make(2)(ramp()), atol=1e-6)
    transform = make(0, invert_prob=0.5)
    falling = sum(transform(ramp()).ravel()[0] == 1 for _ in range(200))
    assert 70 < falling < 130


@pytest.mark.parametrize("kind", ["numpy", "torch", "metatensor"])
def test_input_is_kept_and_type_returned(kind):
    image = {"numpy": np.array, "torch": torch.tensor, "metatensor": MetaTensor}[kind](ramp())
    mapped = make()(image)
    np.testing.assert_array_equal(np.asarray(image), ramp())
    assert type(mapped) is type(image) and mapped.dtype == image.dtype and mapped.shape == image.shape
    np.testing.assert_array_equal(np.asarray(mapped), make()(ramp()))


def test_seed_decides_and_prob_counts():
    np.testing.assert_array_equal(make(3)(ramp()), make(3)(ramp()))
    assert np.abs(make(3)(ramp()) - make(4)(ramp())).max() > 0.01
    transform = RandBezierIntensity().set_random_state(0)
    applied = sum(transform(volume) is not volume for volume in [ramp()] * 500)
    assert 425 < applied < 475


def test_dictionary_version():
    data = {"a": ramp(), "b": torch.from_numpy(ramp()), "other": 1}
    result = RandBezierIntensityd(keys=["a", "b"], prob=1.0).set_random_state(1)(data)
    np.testing.assert_array_equal(result["a"], make(1)(ramp()))
    np.testing.assert_array_equal(result["a"], result["b"].numpy())
    np.testing.assert_array_equal(data["a"], ramp())
    assert result["other"] == 1
    with pytest.raises(KeyError, match="missing"):
        RandBezierIntensityd(keys="missing")(data)


def test_errors():
    with pytest.raises(TypeError, match="int16"):
        make()(np.zeros((1, 4, 4, 4), dtype=np.int16))
    with pytest.raises(ValueError, match="invert_prob"):
        RandBezierIntensity(invert_prob=1.5)


class Mapped(Dataset):
    """Item i is a ramp under the curve of seed i."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        return make(index)(torch.from_numpy(ramp()))


def test_same_in_a_worker_process():
    here, there = (torch.cat(list(DataLoader(Mapped(), num_workers=workers))) for workers in (0, 1))
    assert torch.equal(here, there)


def test_each_channel_has_a_curve_of_its_own():
    one, two = make(3)(ramp()), make(3)(np.concatenate((ramp(), ramp())))
    np.testing.assert_array_equal(two[:1], one)
    assert np.abs(two[1] - two[0]).max() > 0.01 and (np.diff(two[1].ravel()) >= 0).all()
