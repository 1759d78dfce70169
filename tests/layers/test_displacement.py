# SPDX-License-Identifier: Apache-2.0
"""Fusion of affine and local field with ITK as the judge, and the Jacobian."""

from __future__ import annotations

import itk
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from custom.layers import (
    affine_to_displacement,
    compose_affine,
    folded_share,
    fuse,
    fuse_equation_12,
    jacobian_determinant,
    rotation_matrix,
    warp,
)

SHAPE = (20, 24, 28)
SPACINGS = [(1.0, 1.0, 1.0), (1.0, 1.5, 0.8)]


def affine_of_15_degrees() -> torch.Tensor:
    """15 degrees about an oblique axis, with scale and translation in millimetres, (1, 3, 4)."""
    rotation = Rotation.from_rotvec(np.deg2rad(15) * np.array([1, 2, 2]) / 3).as_matrix()
    linear = rotation @ np.diag([1.1, 0.9, 1.05])
    return compose_affine(torch.from_numpy(linear)[None], torch.tensor([[1.5, -1.0, 2.0]], dtype=torch.float64))


def displacement_in_a_ball() -> torch.Tensor:
    """Up to 3 voxels, zero outside a ball of 6 voxels away from the centre, (1, 3, *SHAPE)."""
    voxel = np.indices(SHAPE)
    distance = np.linalg.norm(voxel - np.array([7, 15, 10])[:, None, None, None], axis=0)
    bump = np.clip(1 - (distance / 6) ** 2, 0, None) ** 2
    return torch.from_numpy(bump * np.array([3.0, -2.0, 2.5])[:, None, None, None])[None]


def itk_composite(affine_matrix: torch.Tensor, displacement: torch.Tensor, spacing, displacement_first: bool):
    """ITK's composite transform; what is added last is applied to a point first."""
    affine = itk.AffineTransform[itk.D, 3].New()
    affine.SetCenter([float((side - 1) / 2 * step) for side, step in zip(SHAPE, spacing, strict=True)])
    affine.SetMatrix(itk.matrix_from_array(affine_matrix[0, :, :3].numpy()))
    affine.SetTranslation(affine_matrix[0, :, 3].tolist())
    millimetres = displacement[0].numpy() * np.array(spacing)[:, None, None, None]
    local = itk.DisplacementFieldTransform[itk.D, 3].New()
    # size, origin, spacing, direction; then the vectors, axis 0 running fastest
    local.SetFixedParameters(itk.OptimizerParameters[itk.D]([*SHAPE, 0, 0, 0, *spacing, 1, 0, 0, 0, 1, 0, 0, 0, 1]))
    local.SetParameters(itk.OptimizerParameters[itk.D](millimetres.transpose(3, 2, 1, 0).flatten().tolist()))
    composite = itk.CompositeTransform[itk.D, 3].New()
    for transform in (affine, local) if displacement_first else (local, affine):
        composite.AddTransform(transform)
    return composite


def displacement_of(transform, spacing) -> torch.Tensor:
    """An ITK transform as displacement in voxels, (1, 3, *SHAPE)."""
    moved = np.empty((3, *SHAPE))
    for voxel in np.ndindex(SHAPE):
        moved[(slice(None), *voxel)] = transform.TransformPoint([i * s for i, s in zip(voxel, spacing, strict=True)])
    return torch.from_numpy(moved / np.array(spacing)[:, None, None, None] - np.indices(SHAPE))[None]


@pytest.mark.parametrize("spacing", SPACINGS)
def test_fuse_is_itks_composite_of_displacement_then_affine(spacing):
    affine_matrix, local = affine_of_15_degrees(), displacement_in_a_ball()
    expected = displacement_of(itk_composite(affine_matrix, local, spacing, displacement_first=True), spacing)
    torch.testing.assert_close(fuse(affine_matrix, local, spacing), expected, atol=1e-9, rtol=0)
    # the judge sees the order: the other reading of the paper misses it by voxels
    assert (fuse_equation_12(affine_matrix, local, spacing) - expected).abs().max() > 1


@pytest.mark.parametrize("spacing", SPACINGS)
def test_equation_12_is_itks_composite_of_affine_then_displacement(spacing):
    affine_matrix, local = affine_of_15_degrees(), displacement_in_a_ball()
    expected = displacement_of(itk_composite(affine_matrix, local, spacing, displacement_first=False), spacing)
    torch.testing.assert_close(fuse_equation_12(affine_matrix, local, spacing), expected, atol=1e-9, rtol=0)
    assert (fuse(affine_matrix, local, spacing) - expected).abs().max() > 1


@pytest.mark.parametrize("spacing", SPACINGS)
def test_warping_by_the_fused_field_is_itks_resampling(spacing):
    affine_matrix, local = affine_of_15_degrees(), displacement_in_a_ball()
    image = torch.rand(1, 1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    displacement = fuse(affine_matrix, local, spacing)
    warped = warp(image, displacement)
    moving = itk.image_from_array(np.ascontiguousarray(image[0, 0].numpy().transpose(2, 1, 0)))
    moving.SetSpacing([float(step) for step in spacing])
    resampled = itk.resample_image_filter(
        moving,
        transform=itk_composite(affine_matrix, local, spacing, displacement_first=True),
        interpolator=itk.LinearInterpolateImageFunction[itk.Image[itk.D, 3], itk.D].New(),
        size=list(SHAPE),
        output_spacing=[float(step) for step in spacing],
    )
    expected = torch.from_numpy(itk.array_from_image(resampled).transpose(2, 1, 0))
    position = torch.from_numpy(np.indices(SHAPE)) + displacement[0]
    last = torch.tensor(SHAPE).view(3, 1, 1, 1) - 1
    inside = ((position >= 0) & (position <= last)).all(dim=0)  # ITK does not blend into the background
    assert inside.float().mean() > 0.5
    torch.testing.assert_close(warped[0, 0][inside], expected[inside], atol=1e-9, rtol=0)


def test_one_fused_warp_is_affine_warp_then_local_warp_of_a_linear_image():
    affine_matrix, local = affine_of_15_degrees(), displacement_in_a_ball()
    ramp = torch.from_numpy(np.indices(SHAPE)).double()[None]  # channel c is the position along axis c
    twice = warp(warp(ramp, affine_to_displacement(affine_matrix, SHAPE)), local)
    once = warp(ramp, fuse(affine_matrix, local))
    inside = (..., slice(5, 11), slice(10, 17), slice(7, 14))  # around the ball, nothing comes from outside
    torch.testing.assert_close(once[inside], twice[inside], atol=1e-9, rtol=0)
    assert local[inside].abs().max() > 2.5


@pytest.mark.parametrize("fusion", [fuse, fuse_equation_12])
def test_fusion_with_nothing(fusion):
    affine_matrix, local = affine_of_15_degrees(), displacement_in_a_ball()
    identity = compose_affine(torch.eye(3, dtype=torch.float64)[None], torch.zeros(1, 3, dtype=torch.float64))
    torch.testing.assert_close(fusion(identity, local, (1.0, 1.5, 0.8)), local, atol=1e-12, rtol=0)
    alone = affine_to_displacement(affine_matrix, SHAPE, (1.0, 1.5, 0.8))
    torch.testing.assert_close(fusion(affine_matrix, 0 * local, (1.0, 1.5, 0.8)), alone, atol=1e-12, rtol=0)


@pytest.mark.parametrize("fusion", [fuse, fuse_equation_12])
def test_a_fused_batch_is_its_items(fusion):
    generator = torch.Generator().manual_seed(0)
    affine_matrix = torch.eye(3, 4) + 0.2 * torch.randn(2, 3, 4, generator=generator)
    local = torch.randn(2, 3, 5, 6, 7, generator=generator)
    single = [fusion(affine_matrix[i : i + 1], local[i : i + 1], (1.0, 1.5, 0.8)) for i in range(2)]
    torch.testing.assert_close(fusion(affine_matrix, local, (1.0, 1.5, 0.8)), torch.cat(single))


@pytest.mark.parametrize("fusion", [fuse, fuse_equation_12])
def test_gradcheck_of_both_arguments(fusion):
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(2, 3, 4, dtype=torch.float64, generator=generator)
    affine_matrix = (torch.eye(3, 4, dtype=torch.float64) + 0.1 * noise).requires_grad_()
    local = torch.randn(2, 3, 3, 4, 5, dtype=torch.float64, generator=generator).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, d: fusion(a, d, (1.0, 1.5, 0.8)), (affine_matrix, local))


def test_the_jacobian_of_a_linear_map_is_its_determinant():
    affine_matrix = affine_of_15_degrees()
    displacement = affine_to_displacement(affine_matrix, (5, 6, 7))
    determinant = torch.linalg.det(affine_matrix[0, :, :3])  # 1.1 * 0.9 * 1.05
    assert determinant.item() == pytest.approx(1.0395)
    torch.testing.assert_close(jacobian_determinant(displacement), determinant.expand(1, 4, 5, 6), atol=1e-9, rtol=0)


def test_the_jacobian_of_nothing_is_one():
    displacement = torch.zeros(2, 3, 4, 5, 6)
    assert torch.equal(jacobian_determinant(displacement), torch.ones(2, 3, 4, 5))
    assert torch.equal(folded_share(displacement), torch.zeros(2))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mirrored_axis_is_folded_and_a_stretched_one_is_not(axis):
    position = torch.arange(6.0).view([6 if i == axis else 1 for i in range(3)]).expand(6, 6, 6)
    displacement = torch.zeros(2, 3, 6, 6, 6)
    displacement[0, axis] = -2 * position  # p -> -p, determinant -1
    displacement[1, axis] = 0.5 * position  # p -> 1.5 p
    determinant = jacobian_determinant(displacement)
    torch.testing.assert_close(determinant[0], torch.full((5, 5, 5), -1.0))
    torch.testing.assert_close(determinant[1], torch.full((5, 5, 5), 1.5))
    assert folded_share(displacement).tolist() == [1, 0]


def test_one_fold_is_counted_as_one():
    displacement = torch.zeros(1, 3, 6, 5, 5)
    # planes 2 and 3 of axis 0 change places: steps 0->1->3->2->4, so only the step from 2 to 3 runs backwards
    displacement[0, 0, 2], displacement[0, 0, 3] = 1, -1
    assert jacobian_determinant(displacement)[0, :, 0, 0].tolist() == [1, 2, -1, 2, 1]
    torch.testing.assert_close(folded_share(displacement), torch.tensor([1 / 5]))


def test_a_collapsed_plane_counts_as_folded():
    displacement = torch.zeros(1, 3, 3, 3, 3)
    displacement[0, 1, :, 1] = -1  # planes 0 and 1 of axis 1 fall together: determinant 0
    assert folded_share(displacement).item() == pytest.approx(0.5)


def test_the_jacobian_of_a_random_field_is_that_of_a_loop():
    displacement = torch.randn(1, 3, 4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    determinant = jacobian_determinant(displacement)
    field = displacement[0].numpy()
    for voxel in np.ndindex(3, 2, 4):
        here = field[(slice(None), *voxel)]
        steps = [field[(slice(None), *(voxel + np.eye(3, dtype=int)[axis]))] - here for axis in range(3)]
        np.testing.assert_allclose(determinant[(0, *voxel)], np.linalg.det(np.eye(3) + np.stack(steps, axis=1)))


def test_a_rotation_never_folds():
    matrix = compose_affine(rotation_matrix(torch.tensor([[0.3, 0.3, 0.3]])), torch.zeros(1, 3))
    displacement = affine_to_displacement(matrix, (8, 8, 8))
    torch.testing.assert_close(jacobian_determinant(displacement), torch.ones(1, 7, 7, 7))
