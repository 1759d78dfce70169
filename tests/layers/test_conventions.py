# SPDX-License-Identifier: Apache-2.0
"""The physical convention: ranges, units, one interpolation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from custom.layers import AuthorsConventions, PhysicalConventions, affine_to_displacement, fuse, warp

SHAPE = (6, 8, 10)
SIZES = {"rotation": 3, "scale": 3, "translation": 3, "shear": 6}


def numbers(dtype=torch.float32, **given: list[float]) -> dict[str, torch.Tensor]:
    """Zeros but for what is given, one item."""
    zeros = {name: torch.zeros(1, size, dtype=dtype) for name, size in SIZES.items()}
    return zeros | {name: torch.tensor([values], dtype=dtype) for name, values in given.items()}


def test_zeros_are_the_exact_identity():
    convention = PhysicalConventions((0.7, 1.3, 2.5))
    matrix = convention.matrix(numbers(), SHAPE)
    assert torch.equal(matrix, torch.eye(3, 4)[None])
    assert not convention.displacement(matrix, torch.zeros(1, 3, *SHAPE)).any()


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_ranges_are_reached_but_not_left(sign):
    convention = PhysicalConventions()
    far = [sign * 50.0] * 3
    rotated = convention.matrix(numbers(rotation=far), SHAPE)[0, :, :3]
    expected = Rotation.from_euler("xyz", [sign * math.pi / 9] * 3).as_matrix()
    np.testing.assert_allclose(rotated, expected, atol=1e-6)
    scaled = convention.matrix(numbers(scale=far), SHAPE)[0, :, :3]
    np.testing.assert_allclose(scaled, np.eye(3) * (1 + sign * 0.25), atol=1e-6)
    sheared = convention.matrix(numbers(shear=2 * far), SHAPE)[0, :, :3]
    tangent = math.tan(sign * math.pi / 18)
    np.testing.assert_allclose(sheared, np.eye(3) + tangent * (1 - np.eye(3)), atol=1e-6)


def test_the_limit_is_smooth():
    # the gradient beyond the limit of a hard clamp is not zero
    values = numbers(rotation=[1.5, 0, 0], scale=[1.5, 0, 0], shear=[1.5, 0, 0, 0, 0, 0])
    for value in values.values():
        value.requires_grad_()
    (PhysicalConventions().matrix(values, SHAPE) * torch.arange(12.0).view(3, 4)).sum().backward()
    assert all(value.grad[0, 0].abs() > 1e-3 for name, value in values.items() if name != "translation")


def test_translation_counts_half_sides_in_millimetres_and_is_free():
    matrix = PhysicalConventions((0.5, 1.0, 2.0)).matrix(numbers(translation=[1.0, -2.0, 3.0]), SHAPE)
    # half sides 6/2*0.5, 8/2*1, 10/2*2 mm
    assert matrix[0, :, 3].tolist() == [1.5, -8.0, 30.0]


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.3, 2.5)])
def test_rotation_numbers_make_a_rigid_map_on_a_long_grid(spacing):
    shape = (64, 96, 128)
    matrix = PhysicalConventions(spacing).matrix(numbers(rotation=[0.7, -0.4, 0.9]), shape).double()
    moved = affine_to_displacement(matrix, shape, spacing)[0].numpy()
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(shape) - 1)
    before = corners * np.array(spacing)
    after = before + np.stack([moved[(slice(None), *corner)] for corner in corners]) * np.array(spacing)
    distances = [np.linalg.norm(points[:, None] - points[None], axis=-1) for points in (before, after)]
    np.testing.assert_allclose(distances[1], distances[0], atol=1e-3)
    assert np.abs(after - before).max() > 5


def test_warp_is_one_interpolation_of_the_fused_field():
    generator = torch.Generator().manual_seed(0)
    convention = PhysicalConventions((0.7, 1.3, 2.5))
    matrix = convention.matrix(numbers(rotation=[0.7, -0.4, 0.9], translation=[0.1, 0.2, -0.1]), SHAPE)
    image, local = torch.rand(1, 2, *SHAPE, generator=generator), torch.randn(1, 3, *SHAPE, generator=generator)
    fused = fuse(matrix, local, (0.7, 1.3, 2.5))
    assert torch.equal(convention.displacement(matrix, local), fused)
    assert torch.equal(convention.warp(image, matrix, local), warp(image, fused))
    alone = affine_to_displacement(matrix, SHAPE, (0.7, 1.3, 2.5))
    assert torch.equal(convention.warp_affine(image, matrix), warp(image, alone))
    other = PhysicalConventions((0.7, 1.3, 2.5), fusion="equation_12").displacement(matrix, local)
    assert (other - fused).abs().max() > 0.1


def test_half_precision_numbers_make_a_float32_matrix():
    matrix = PhysicalConventions().matrix(numbers(torch.bfloat16, rotation=[0.5, 0.25, 1.0]), SHAPE)
    assert matrix.dtype == torch.float32
    expected = Rotation.from_euler("xyz", np.tanh([0.5, 0.25, 1.0]) * math.pi / 9).as_matrix()
    np.testing.assert_allclose(matrix[0, :, :3], expected, atol=1e-6)


@pytest.mark.parametrize("convention", [PhysicalConventions((0.7, 1.3, 2.5)), AuthorsConventions()])
def test_gradcheck_from_the_numbers_of_the_head(convention):
    generator = torch.Generator().manual_seed(0)
    sizes = SIZES.values()
    values = [(0.4 * torch.randn(2, s, dtype=torch.float64, generator=generator)).requires_grad_() for s in sizes]
    local = torch.rand(2, 3, 3, 4, 3, dtype=torch.float64, generator=generator).requires_grad_()

    def displacement(local, *values):
        return convention.displacement(convention.matrix(dict(zip(SIZES, values, strict=True)), (3, 4, 3)), local)

    assert torch.autograd.gradcheck(displacement, (local, *values))


def test_a_wrong_fusion_is_named():
    with pytest.raises(ValueError, match=r"\['equation_12', 'fixed_grid'\], got 'moving_grid'"):
        PhysicalConventions(fusion="moving_grid")
