# SPDX-License-Identifier: Apache-2.0
"""Smoothness: worked by hand, blind to nothing, the authors' number, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from custom.losses import SmoothnessLoss, smoothness_loss


def test_worked_by_hand():
    displacement = torch.zeros(1, 3, 2, 2, 2)
    displacement[0, 1, 1] = 3  # channel 1 jumps by 3 along axis 0, at each of 4 steps
    displacement[0, 2, 0, 1, 0] = 2  # channel 2 has one voxel of 2: one jump along each axis
    # axis 0: (4 * 3^2 + 2^2) over 4 steps * 3 channels = 40/12; axes 1 and 2: 2^2 over 12 = 4/12 each
    assert smoothness_loss(displacement).item() == pytest.approx((40 / 12 + 4 / 12 + 4 / 12) / 3)


def test_axes_weigh_the_same_whatever_their_length():
    losses = []
    for axis in range(3):
        slope = torch.zeros(1, 3, 4, 6, 9)
        side = slope.shape[2 + axis]
        slope[0, 0] = torch.arange(float(side)).view([side if i == axis else 1 for i in range(3)])
        losses.append(smoothness_loss(slope).item())
    assert losses == pytest.approx([1 / 9] * 3)  # slope 1 in one of three channels, along one of three axes


def test_a_constant_field_is_smooth():
    assert smoothness_loss(torch.full((2, 3, 4, 5, 6), 7.5)).tolist() == [0, 0]


def test_a_checkerboard_is_seen():
    sign = torch.from_numpy((-1.0) ** np.indices((6, 6, 6)).sum(0)).float()
    assert smoothness_loss(sign.expand(1, 3, 6, 6, 6)).item() == pytest.approx(4)  # each step is 2


def test_a_loop_agrees():
    displacement = torch.randn(2, 3, 4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = [
        np.mean([np.mean(np.diff(item, axis=axis) ** 2) for axis in (1, 2, 3)]) for item in displacement.numpy()
    ]
    np.testing.assert_allclose(smoothness_loss(displacement), expected, atol=1e-12)
    assert SmoothnessLoss()(displacement).item() == pytest.approx(np.mean(expected))


def test_the_authors_number(shared_data):
    with np.load(shared_data / "reference" / "authors_modules.npz") as arrays:
        displacement, expected = torch.from_numpy(arrays["displacement"]), torch.from_numpy(arrays["smoothness"])
    torch.testing.assert_close(SmoothnessLoss()(displacement), expected, atol=1e-5, rtol=0)


def test_gradcheck():
    displacement = torch.randn(2, 3, 3, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(smoothness_loss, displacement.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_the_loss_in_float32(dtype):
    displacement = torch.randn(1, 3, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=dtype):
        value = SmoothnessLoss()(displacement)
    assert value.dtype == torch.float32 and torch.equal(value, SmoothnessLoss()(displacement))
    assert SmoothnessLoss()(displacement.to(dtype)).dtype == torch.float32


@pytest.mark.parametrize("shape", [(1, 2, 4, 4, 4), (3, 4, 4, 4), (1, 3, 4, 4), (1, 4, 4, 4, 3)])
def test_another_shape_is_named(shape):
    with pytest.raises(ValueError, match=r"\(N, 3, \*spatial\), got \(" + ", ".join(map(str, shape))):
        smoothness_loss(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(2, 3, 1, 4, 4), (2, 3, 4, 1, 4), (2, 3, 4, 4, 1), (1, 3, 0, 4, 4)])
def test_a_side_without_differences_is_named(shape):
    with pytest.raises(ValueError, match=r"sides of 2 voxels or more, got shape \(" + ", ".join(map(str, shape))):
        SmoothnessLoss()(torch.zeros(shape))
    assert smoothness_loss(torch.zeros(1, 3, 2, 2, 2)).tolist() == [0]
