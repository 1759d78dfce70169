# SPDX-License-Identifier: Apache-2.0
"""Affine matrices: scipy as the judge, rigid in millimetres, about the centre, with gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from custom.layers import (
    affine_to_displacement,
    compose_affine,
    linear_matrix,
    rotation_matrix,
    shear_matrix,
    voxel_affine,
)


def uniform(*shape: int, low: float, high: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(*shape, dtype=torch.float64, generator=generator)


def test_rotation_is_that_of_scipy():
    angles = uniform(20, 3, low=-math.pi, high=math.pi)
    # lower case: about the fixed axes 0, 1, 2, one after the other
    expected = Rotation.from_euler("xyz", angles.numpy()).as_matrix()
    np.testing.assert_allclose(rotation_matrix(angles), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("axis", "point", "turned"),
    [(0, (0, 1, 0), (0, 0, 1)), (1, (0, 0, 1), (1, 0, 0)), (2, (1, 0, 0), (0, 1, 0))],
)
def test_a_quarter_turn_about_each_axis(axis, point, turned):
    angles = torch.zeros(1, 3, dtype=torch.float64)
    angles[0, axis] = math.pi / 2
    moved = rotation_matrix(angles)[0] @ torch.tensor(point, dtype=torch.float64)
    torch.testing.assert_close(moved, torch.tensor(turned, dtype=torch.float64), atol=1e-12, rtol=0)


def test_shear_names_row_and_column():
    matrix = shear_matrix(torch.tensor([[1.0, 2, 3, 4, 5, 6]]))
    assert matrix.tolist() == [[[1, 1, 2], [3, 1, 4], [5, 6, 1]]]


def test_a_point_is_sheared_then_scaled_then_rotated():
    rotation, scale = uniform(4, 3, low=-1, high=1), uniform(4, 3, low=0.5, high=2, seed=1)
    shear = uniform(4, 6, low=-0.3, high=0.3, seed=2)
    for i in range(4):
        sheared = shear_matrix(shear[i : i + 1])[0].numpy()
        expected = Rotation.from_euler("xyz", rotation[i].numpy()).as_matrix() @ np.diag(scale[i].numpy()) @ sheared
        np.testing.assert_allclose(linear_matrix(rotation, scale, shear)[i], expected, atol=1e-12)


def test_neutral_numbers_are_the_exact_identity():
    linear = linear_matrix(torch.zeros(2, 3), torch.ones(2, 3), torch.zeros(2, 6))
    assert torch.equal(linear, torch.eye(3).expand(2, 3, 3))
    displacement = affine_to_displacement(compose_affine(linear, torch.zeros(2, 3)), (5, 6, 7), (0.7, 1.3, 2.5))
    assert displacement.shape == (2, 3, 5, 6, 7) and not displacement.any()


def test_displacement_is_the_formula_at_every_voxel():
    spacing, shape = np.array([0.7, 1.3, 2.5]), (3, 4, 6)
    matrix = torch.cat((uniform(2, 3, 3, low=-1, high=1), uniform(2, 3, 1, low=-5, high=5, seed=1)), dim=-1)
    displacement = affine_to_displacement(matrix, shape, spacing)
    centre = (np.array(shape) - 1) / 2
    for item, voxel in ((i, v) for i in range(2) for v in np.ndindex(shape)):
        millimetres = (np.array(voxel) - centre) * spacing  # relative to the centre
        moved = matrix[item, :, :3].numpy() @ millimetres + matrix[item, :, 3].numpy()
        expected = moved / spacing + centre - voxel
        np.testing.assert_allclose(displacement[(item, slice(None), *voxel)], expected, atol=1e-12)


def test_translation_is_in_millimetres_along_its_own_axis():
    matrix = compose_affine(torch.eye(3)[None], torch.tensor([[2.0, 3.0, 5.0]]))
    displacement = affine_to_displacement(matrix, (4, 5, 6), (0.5, 1.0, 2.0))
    expected = torch.tensor([4.0, 3.0, 2.5]).view(1, 3, 1, 1, 1).expand(1, 3, 4, 5, 6)
    torch.testing.assert_close(displacement, expected)


def test_the_centre_stays_where_it_is():
    linear = linear_matrix(torch.full((1, 3), 0.3), torch.full((1, 3), 1.2), torch.full((1, 6), 0.1))
    displacement = affine_to_displacement(compose_affine(linear, torch.zeros(1, 3)), (7, 9, 11), (0.7, 1.3, 2.5))
    torch.testing.assert_close(displacement[0, :, 3, 4, 5], torch.zeros(3), atol=1e-6, rtol=0)
    assert displacement.abs().max() > 0.5


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.3, 2.5)])
def test_rotation_is_rigid_on_a_long_grid(spacing):
    shape = (64, 96, 128)
    angles = torch.tensor([[0.3, -0.2, 0.35]], dtype=torch.float64)
    matrix = compose_affine(rotation_matrix(angles), torch.tensor([[3.0, -2.0, 1.0]], dtype=torch.float64))
    displacement = affine_to_displacement(matrix, shape, spacing)[0]
    random = np.random.default_rng(0)
    voxels = np.stack([random.integers(0, side, 200) for side in shape])
    moved = voxels + displacement[(slice(None), *voxels)].numpy()
    before, after = (points.T * np.array(spacing) for points in (voxels, moved))
    distances = [np.linalg.norm(points[:, None] - points[None], axis=-1) for points in (before, after)]
    np.testing.assert_allclose(distances[1], distances[0], atol=1e-9)
    turn, _ = Rotation.align_vectors(after - after.mean(0), before - before.mean(0))  # and it is this rotation
    np.testing.assert_allclose(turn.as_matrix(), rotation_matrix(angles)[0], atol=1e-9)


def test_a_batch_is_its_items():
    rotation, scale = uniform(3, 3, low=-1, high=1), uniform(3, 3, low=0.5, high=2, seed=1)
    shear, translation = uniform(3, 6, low=-0.3, high=0.3, seed=2), uniform(3, 3, low=-5, high=5, seed=3)

    def displace(items: slice) -> torch.Tensor:
        linear = linear_matrix(rotation[items], scale[items], shear[items])
        return affine_to_displacement(compose_affine(linear, translation[items]), (4, 5, 6), (0.7, 1.3, 2.5))

    torch.testing.assert_close(displace(slice(None)), torch.cat([displace(slice(i, i + 1)) for i in range(3)]))


def test_gradcheck_from_the_numbers_to_the_displacement():
    numbers = (
        uniform(2, 3, low=-1, high=1).requires_grad_(),
        uniform(2, 3, low=0.5, high=2, seed=1).requires_grad_(),
        uniform(2, 6, low=-0.3, high=0.3, seed=2).requires_grad_(),
        uniform(2, 3, low=-5, high=5, seed=3).requires_grad_(),
    )

    def displace(rotation, scale, shear, translation):
        affine_matrix = compose_affine(linear_matrix(rotation, scale, shear), translation)
        return affine_to_displacement(affine_matrix, (3, 2, 4), (0.7, 1.3, 2.5))

    assert torch.autograd.gradcheck(rotation_matrix, numbers[:1])
    assert torch.autograd.gradcheck(linear_matrix, numbers[:3])
    assert torch.autograd.gradcheck(displace, numbers)


def test_voxel_affine_undoes_the_spacing():
    spacing = np.array([0.7, 1.3, 2.5])
    matrix = uniform(1, 3, 4, low=-1, high=1)
    linear, translation = voxel_affine(matrix, spacing)
    scale = np.diag(spacing)
    expected = np.linalg.inv(scale) @ matrix[0, :, :3].numpy() @ scale
    np.testing.assert_allclose(linear[0], expected, atol=1e-12)
    np.testing.assert_allclose(translation[0], matrix[0, :, 3].numpy() / spacing, atol=1e-12)


@pytest.mark.parametrize("shape", [(3, 4), (1, 3, 3), (2, 4, 4), (1, 1, 3, 4)])
def test_a_matrix_of_another_shape_is_named(shape):
    with pytest.raises(ValueError, match=r"\(N, 3, 4\), got \(" + ", ".join(map(str, shape))):
        affine_to_displacement(torch.zeros(shape), (4, 4, 4))
