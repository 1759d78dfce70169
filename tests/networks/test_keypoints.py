# SPDX-License-Identifier: Apache-2.0
"""The keypoint affine head: centres of mass, least squares against numpy, which way the map goes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from custom.networks import KeypointAffineHead
from custom.networks.keypoints import centres_of_mass, fit_affine

SPACING = (1.0, 1.5, 0.8)
STRIDE = 4


def points(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def sharp_head(channels: int) -> KeypointAffineHead:
    """One keypoint for each channel, so sharp that it lies in the brightest cell; next to no ridge."""
    head = KeypointAffineHead(channels, STRIDE, SPACING, keypoints=channels, temperature=0.01, ridge=1e-3)
    torch.nn.init.eye_(head.heat.weight.view(channels, channels))
    return head


def test_centre_of_mass_of_one_cell_and_of_two() -> None:
    share = torch.zeros(1, 2, 2, 4, 5)
    share[0, 0, 1, 0, 3] = 1
    share[0, 1, 0, 0, 0] = share[0, 1, 0, 3, 0] = 0.5
    torch.testing.assert_close(centres_of_mass(share), torch.tensor([[[0.5, -1.5, 1.0], [-0.5, 0.0, -2.0]]]))


def test_any_affine_map_is_found_from_its_points() -> None:
    matrix, source = points(2, 3, 4, seed=1), points(2, 9, 3)
    target = source @ matrix[:, :, :3].transpose(1, 2) + matrix[:, None, :, 3]
    torch.testing.assert_close(fit_affine(source, target, (1e-6,) * 3), matrix, atol=1e-8, rtol=0)


def test_the_ridge_is_that_of_numpy_least_squares() -> None:
    """Judge: three more equations for each row, weighted, that ask for the identity."""
    source, target, ridge = points(1, 6, 3), points(1, 6, 3, seed=1), np.array([0.3, 0.5, 2.0])
    design = np.vstack((np.c_[source[0], np.ones(6)], np.c_[np.diag(ridge) * np.sqrt(6), np.zeros(3)]))
    wanted = np.vstack((target[0], np.diag(ridge) * np.sqrt(6)))
    expected = np.linalg.lstsq(design, wanted, rcond=None)[0].T
    torch.testing.assert_close(fit_affine(source, target, ridge)[0], torch.from_numpy(expected))


def test_points_in_one_place_give_a_shift() -> None:
    source, shift = torch.full((1, 4, 3), 2.0), torch.tensor([1.0, -2.0, 0.5])
    expected = torch.cat((torch.eye(3), shift[:, None]), dim=1)[None]
    torch.testing.assert_close(fit_affine(source, source + shift, (0.1,) * 3), expected)


def test_a_shift_of_the_moving_volume_is_the_translation_in_millimetres() -> None:
    """Features that lie two cells further in the moving volume: the fixed grid samples it there."""
    head = sharp_head(6)
    fixed = torch.zeros(1, 6, 8, 8, 8)
    for channel, place in enumerate([(2, 3, 2), (4, 2, 3), (3, 5, 4), (2, 2, 5), (5, 4, 2), (4, 5, 5)]):
        fixed[(0, channel, *place)] = 1
    moving = fixed.roll((2, -1), (2, 3))
    matrix = head(moving, fixed)[0]
    expected = torch.tensor([2 * STRIDE * SPACING[0], -STRIDE * SPACING[1], 0.0])
    torch.testing.assert_close(matrix[:, 3], expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(matrix[:, :3], torch.eye(3), atol=1e-3, rtol=0)
    back = head(fixed, moving)[0]
    torch.testing.assert_close(back[:, 3], -expected, atol=1e-3, rtol=0)


def test_a_volume_against_itself_is_the_identity() -> None:
    torch.manual_seed(0)
    volume = torch.randn(2, 8, 3, 4, 2)
    matrix = KeypointAffineHead(8, 16, SPACING)(volume, volume)
    torch.testing.assert_close(matrix, torch.eye(3, 4).expand(2, 3, 4), atol=1e-6, rtol=0)


@pytest.mark.parametrize("spatial", [(1, 1, 1), (3, 1, 2)])
def test_grids_of_few_cells(spatial: tuple[int, int, int]) -> None:
    """Cells that tell nothing about an axis leave it as it is; gradients stay finite."""
    torch.manual_seed(0)
    head = KeypointAffineHead(8, 16, SPACING)
    matrix = head(torch.randn(1, 8, *spatial), torch.randn(1, 8, *spatial))
    torch.testing.assert_close(matrix[0, 1], torch.tensor([0.0, 1.0, 0.0, 0.0]))
    matrix.square().sum().backward()
    assert head.heat.weight.grad.isfinite().all()


def test_float32_under_autocast() -> None:
    torch.manual_seed(0)
    head = KeypointAffineHead(8, 16, SPACING)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        matrix = head(torch.randn(1, 8, 3, 3, 3), torch.randn(1, 8, 3, 3, 3))
    assert matrix.dtype == torch.float32
