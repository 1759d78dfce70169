# SPDX-License-Identifier: Apache-2.0
"""The registration loss: a naive loop and MONAI as judges, what it must not punish and what it must, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.losses import LocalNormalizedCrossCorrelationLoss
from scipy.ndimage import uniform_filter

from custom.layers import warp
from custom.losses import AuthorsNCCLoss, LocalNCCLoss, authors_ncc_loss, box_filter, local_ncc_loss


def noise(*shape: int, dtype=torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def loop_ncc_loss(warped: np.ndarray, fixed: np.ndarray, window: int, min_variance: float) -> float:
    """The definition, one window at a time; windows are cut at the border."""
    half, total, counted = window // 2, 0.0, 0
    for centre in np.ndindex(fixed.shape):
        cube = tuple(slice(max(c - half, 0), c + half + 1) for c in centre)
        a, b = warped[cube], fixed[cube]
        if b.var() > min_variance:
            covariance = ((a - a.mean()) * (b - b.mean())).mean()
            total += covariance**2 / (max(a.var(), min_variance) * b.var())
            counted += 1
    return 1 - total / counted if counted else 0.0


def loop_authors_ncc_loss(warped: np.ndarray, fixed: np.ndarray, window: int, epsilon: float) -> float:
    """Sums over windows of the zero-padded volumes."""
    half, total = window // 2, []
    warped, fixed = np.pad(warped, half), np.pad(fixed, half)
    for corner in np.ndindex(*(side - 2 * half for side in fixed.shape)):
        cube = tuple(slice(c, c + window) for c in corner)
        a, b = warped[cube] - warped[cube].mean(), fixed[cube] - fixed[cube].mean()
        total.append((a * b).sum() ** 2 / ((a * a).sum() * (b * b).sum() + epsilon))
    return 1 - np.mean(total)


@pytest.fixture
def half_empty(blobs, voxel_grid) -> torch.Tensor:
    """(1, 1, 16, 16, 16), texture in the front half, background of exact zero in the other."""
    volume = torch.from_numpy(blobs(voxel_grid(16, 16, 16))).float()[None, None]
    volume[:, :, 8:] = 0
    return volume


@pytest.mark.parametrize("window", [1, 3, 5, 9])
def test_box_filter_is_the_mean_of_the_voxels_inside(window):
    volume = noise(2, 6, 7, 9, dtype=torch.float64)
    filtered = box_filter(volume, window)
    # scipy pads with zeros: the mean of the voxels inside is the ratio of two such means
    expected = [uniform_filter(item, window, mode="constant") for item in volume.numpy()]
    inside = uniform_filter(np.ones((6, 7, 9)), window, mode="constant")
    np.testing.assert_allclose(filtered, np.stack(expected) / inside, atol=1e-12)
    total = box_filter(volume, window, mean=False)
    np.testing.assert_allclose(total, np.stack(expected) * window**3, atol=1e-10)


def test_box_filter_takes_a_window_larger_than_the_volume():
    volume = noise(1, 3, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(box_filter(volume, 11), volume.mean().expand(1, 3, 4, 5))


@pytest.mark.parametrize("window", [3, 5])
@pytest.mark.parametrize("min_variance", [1e-4, 0.05])
def test_the_loss_is_that_of_a_naive_loop(window, min_variance):
    warped, fixed = noise(2, 1, 6, 7, 8, dtype=torch.float64), noise(2, 1, 6, 7, 8, dtype=torch.float64, seed=1)
    fixed = 0.6 * fixed + 0.4 * warped
    fixed[:, :, 3:], warped[:, :, :, 5:] = 0.25, 0.0  # flat regions in both
    fixed[:, :, :, :, 6:] += 5  # far from the mean
    expected = [
        loop_ncc_loss(a[0].numpy(), b[0].numpy(), window, min_variance) for a, b in zip(warped, fixed, strict=True)
    ]
    np.testing.assert_allclose(local_ncc_loss(warped, fixed, window, min_variance), expected, atol=1e-9)


def test_float32_is_close_to_float64():
    warped, fixed = noise(1, 1, 20, 20, 20), noise(1, 1, 20, 20, 20, seed=1)
    warped, fixed = 0.9 + 0.05 * warped, 0.9 + 0.05 * fixed  # low contrast, far from zero: cancellation
    fixed[:, :, :10], warped[:, :, :10] = 0, 0
    exact = local_ncc_loss(warped.double(), fixed.double())
    torch.testing.assert_close(local_ncc_loss(warped, fixed).double(), exact, atol=1e-4, rtol=0)


@pytest.mark.parametrize("window", [3, 9])
def test_monai_agrees_with_the_authors_loss_on_texture(window):
    warped, fixed = noise(2, 1, 14, 12, 13, seed=2), noise(2, 1, 14, 12, 13, seed=3)
    warped = 0.5 * warped + 0.5 * fixed
    monai = LocalNormalizedCrossCorrelationLoss(kernel_size=window, smooth_nr=0, smooth_dr=1e-5)
    torch.testing.assert_close(
        authors_ncc_loss(warped, fixed, window).mean(), 1 + monai(warped, fixed), atol=1e-5, rtol=0
    )


def test_monai_agrees_with_our_loss_away_from_the_border():
    # one window in the middle of a large volume: compare the map of MONAI where no window is cut and all count
    window, warped, fixed = 5, noise(1, 1, 13, 13, 13, seed=2), noise(1, 1, 13, 13, 13, seed=3)
    warped = 0.5 * warped + 0.5 * fixed
    monai = LocalNormalizedCrossCorrelationLoss(kernel_size=window, smooth_nr=0, smooth_dr=1e-5, reduction="none")
    inner = 1 + monai(warped, fixed)[:, :, 2:-2, 2:-2, 2:-2]
    # the fixed volume is flat outside of one window only, so that this window alone has weight in ours
    for corner in ((0, 0, 0), (4, 3, 8), (8, 8, 8)):
        cube = (..., *(slice(c, c + window) for c in corner))
        one = local_ncc_loss(warped[cube], fixed[cube], 2 * window + 1)  # every window is the whole cube
        torch.testing.assert_close(one[0], inner[(0, 0, *corner)], atol=1e-5, rtol=0)


def test_the_authors_loss_is_that_of_a_naive_loop():
    warped, fixed = noise(2, 1, 6, 7, 8, dtype=torch.float64), noise(2, 1, 6, 7, 8, dtype=torch.float64, seed=1)
    fixed[:, :, 3:] = 0
    expected = [loop_authors_ncc_loss(a[0].numpy(), b[0].numpy(), 5, 1e-5) for a, b in zip(warped, fixed, strict=True)]
    np.testing.assert_allclose(authors_ncc_loss(warped, fixed, 5), expected, atol=1e-9)


def test_the_authors_numbers(shared_data):
    with np.load(shared_data / "reference" / "authors_modules.npz") as arrays:
        warped, fixed, loss = (torch.from_numpy(arrays[name]) for name in ("ncc_a", "ncc_b", "ncc_loss"))
    torch.testing.assert_close(authors_ncc_loss(warped, fixed)[0], loss, atol=1e-5, rtol=0)
    torch.testing.assert_close(AuthorsNCCLoss()(warped, fixed), loss, atol=1e-5, rtol=0)
    assert (local_ncc_loss(warped, fixed)[0] - loss).abs() > 1e-3  # ours is another


def test_a_half_empty_volume_matches_itself(half_empty):
    assert local_ncc_loss(half_empty, half_empty).item() == pytest.approx(0, abs=1e-6)
    assert authors_ncc_loss(half_empty, half_empty).item() > 0.2  # what this is to avoid


def test_moving_out_of_view_costs_more_than_the_identity(half_empty, blobs, voxel_grid):
    other = torch.from_numpy(blobs(voxel_grid(16, 16, 16) + 1.0)).float()[None, None]  # a voxel away: a poor match
    here = local_ncc_loss(half_empty, other)
    losses = []
    for shift in (6.0, 10.0, 40.0):
        displacement = torch.zeros(1, 3, 16, 16, 16)
        displacement[:, 0] = shift
        losses.append(local_ncc_loss(warp(half_empty, displacement), other).item())
    assert here.item() < losses[0] < losses[1] <= losses[2]
    assert losses[2] == pytest.approx(1, abs=1e-6)  # all gone
    assert local_ncc_loss(torch.zeros_like(other), other).item() == 1


def test_the_weights_come_from_the_fixed_volume_only(half_empty):
    empty = torch.zeros_like(half_empty)
    assert local_ncc_loss(half_empty, empty).item() == 0  # nothing to match
    assert local_ncc_loss(empty, half_empty).item() == 1  # everything missed


@pytest.mark.parametrize(("factor", "offset"), [(0.5, 0.0), (2.0, 0.3), (-1.0, 1.0), (0.7, -3.0)])
def test_contrast_does_not_matter(factor, offset):
    warped, fixed = noise(2, 1, 12, 13, 14), noise(2, 1, 12, 13, 14, seed=1)
    expected = local_ncc_loss(warped, fixed)
    torch.testing.assert_close(local_ncc_loss(factor * warped + offset, fixed), expected, atol=2e-6, rtol=0)
    torch.testing.assert_close(local_ncc_loss(warped, factor * fixed + offset), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_stays_between_0_and_1(seed):
    warped, fixed = noise(2, 1, 10, 11, 12, seed=seed), noise(2, 1, 10, 11, 12, seed=seed + 100)
    warped, fixed = warped**8, (fixed > 0.98) * fixed  # mostly flat, with spikes
    fixed = torch.where(warped > 0.5, warped, fixed) * 10.0 ** (seed - 2)
    loss = local_ncc_loss(warped, fixed)
    assert (loss >= -1e-6).all() and (loss <= 1 + 1e-6).all()


def test_noise_below_the_clamp_is_no_structure():
    # standard deviation 0.003, variance 1e-5 below 1e-4: neither demanded of the moving nor seen in the fixed volume
    fixed = 0.5 + 0.01 * noise(1, 1, 12, 12, 12)
    assert local_ncc_loss(noise(1, 1, 12, 12, 12, seed=1), fixed).item() == 0


def test_each_volume_has_its_own_mean(half_empty):
    full = noise(1, 1, 16, 16, 16)
    pairs = torch.cat((half_empty, full)), torch.cat((half_empty, noise(1, 1, 16, 16, 16, seed=1)))
    single = torch.cat([local_ncc_loss(pairs[0][i : i + 1], pairs[1][i : i + 1]) for i in range(2)])
    torch.testing.assert_close(local_ncc_loss(*pairs), single)
    torch.testing.assert_close(LocalNCCLoss()(*pairs), single.mean())
    authors = torch.cat([authors_ncc_loss(pairs[0][i : i + 1], pairs[1][i : i + 1]) for i in range(2)])
    torch.testing.assert_close(authors_ncc_loss(*pairs), authors)


def test_a_better_alignment_costs_less_at_each_step(blobs, voxel_grid):
    grid = voxel_grid(16, 16, 16)
    fixed = torch.from_numpy(blobs(grid)).float()[None, None]
    shifts = (0, 0.5, 1, 2, 3)
    losses = [local_ncc_loss(torch.from_numpy(blobs(grid + s)).float()[None, None], fixed).item() for s in shifts]
    assert losses == sorted(losses) and losses[0] < 1e-6 and losses[-1] > 0.2


@pytest.mark.parametrize("loss", [local_ncc_loss, authors_ncc_loss])
def test_gradcheck(loss):
    warped = noise(2, 1, 4, 5, 4, dtype=torch.float64).requires_grad_()
    fixed = noise(2, 1, 4, 5, 4, dtype=torch.float64, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, 3), (warped, fixed))


def test_gradcheck_with_empty_regions():
    warped, fixed = (noise(1, 1, 4, 5, 6, dtype=torch.float64, seed=seed) for seed in range(2))
    warped[..., 3:] *= 1e-4  # below the clamp
    fixed[..., :2, :] = 0.5  # no weight
    assert torch.autograd.gradcheck(lambda a: local_ncc_loss(a, fixed, 3), warped.requires_grad_())


def test_the_gradient_of_empty_volumes_is_finite():
    warped = torch.zeros(1, 1, 8, 8, 8, requires_grad=True)
    (local_ncc_loss(warped, noise(1, 1, 8, 8, 8)) + local_ncc_loss(warped, torch.zeros(1, 1, 8, 8, 8))).backward()
    assert warped.grad.isfinite().all()


@pytest.mark.parametrize("loss", [LocalNCCLoss(), AuthorsNCCLoss()])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_the_loss_in_float32(loss, dtype):
    warped, fixed = noise(1, 1, 12, 12, 12), noise(1, 1, 12, 12, 12, seed=1)
    with torch.autocast("cpu", dtype=dtype):
        value = loss(warped, fixed)
    assert value.dtype == torch.float32 and torch.equal(value, loss(warped, fixed))
    narrow = loss(warped.to(dtype), fixed)
    assert narrow.dtype == torch.float32 and torch.equal(narrow, loss(warped.to(dtype).float(), fixed))


@pytest.mark.parametrize("loss", [local_ncc_loss, authors_ncc_loss])
@pytest.mark.parametrize(
    ("warped", "fixed", "window", "found"),
    [
        ((1, 1, 8, 8, 8), (1, 1, 8, 8, 9), 9, r"\(1, 1, 8, 8, 8\) and \(1, 1, 8, 8, 9\)"),
        ((2, 1, 8, 8, 8), (1, 1, 8, 8, 8), 9, r"\(2, 1, 8, 8, 8\) and \(1, 1, 8, 8, 8\)"),
        ((1, 1, 8, 8), (1, 1, 8, 8), 9, r"three spatial axes, got \(1, 1, 8, 8\)"),
        ((1, 1, 8, 8, 8), (1, 1, 8, 8, 8), 4, "odd and positive, got 4"),
        ((1, 1, 8, 8, 8), (1, 1, 8, 8, 8), -1, "odd and positive, got -1"),
    ],
)
def test_shapes_and_windows_that_do_not_fit_are_named(loss, warped, fixed, window, found):
    with pytest.raises(ValueError, match=found):
        loss(torch.zeros(warped), torch.zeros(fixed), window)


def test_channels_are_averaged():
    generator = torch.Generator().manual_seed(0)
    warped, fixed = torch.rand(2, 1, 3, 12, 12, 12, generator=generator)  # textured: every window counts
    alone = [local_ncc_loss(warped[:, [channel]], fixed[:, [channel]]) for channel in range(3)]
    torch.testing.assert_close(local_ncc_loss(warped, fixed), torch.stack(alone).mean(dim=0))
