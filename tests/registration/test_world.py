# SPDX-License-Identifier: Apache-2.0
"""Displacement fields in millimetres: against loops, analytic fields and ITK."""

import numpy as np
import pytest
from oblique import corresponding_point, itk_read_field, itk_resample, make_affine, moving_value, points

from custom.registration import pull_image, resample_displacement, world, world_displacement
from custom.registration.vector_nifti import write_displacement_field
from custom.volumes import write_volume

MOVING = make_affine((9, 8, 7), (0.9, 1.3, 2.5), (12, -20, 25), (30, -40, 60), flips=(-1, 1, 1))
FIXED = make_affine((9, 8, 7), (1.1, 0.8, 2.0), (-15, 10, 40), (-15, 25, 10))


def test_world_displacement_is_the_difference_of_the_two_points():
    displacement = np.random.default_rng(0).normal(0, 3, (3, 9, 8, 7)).astype(np.float32)
    field = world_displacement(displacement, MOVING, FIXED)
    assert field.dtype == np.float32 and field.shape == displacement.shape
    for voxel in [(0, 0, 0), (8, 7, 6), (3, 1, 5)]:
        to = MOVING @ [*(voxel + displacement[(slice(None), *voxel)]), 1]
        start = FIXED @ [*voxel, 1]
        np.testing.assert_allclose(field[(slice(None), *voxel)], (to - start)[:3], atol=2e-5)


def test_world_displacement_by_hand():
    # Same grid, spacing 2, 3, 4 with the first axis reversed: one voxel along each axis is -2, 3 and 4 mm.
    displacement = np.ones((3, 2, 2, 2), dtype=np.float32)
    affine = np.diag([-2.0, 3.0, 4.0, 1.0])
    np.testing.assert_array_equal(world_displacement(displacement, affine, affine)[:, 1, 0, 1], [-2, 3, 4])


def test_world_displacement_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"\(3, \*spatial\).*\(1, 3, 2, 2, 2\)"):
        world_displacement(np.zeros((1, 3, 2, 2, 2)), np.eye(4), np.eye(4))


def test_resampled_linear_field_is_exact_inside_and_goes_on_outside():
    shape, target_shape = (30, 28, 26), (10, 11, 6)
    affine = make_affine(shape, (1.5, 1.5, 1.5), (5, 8, -30), (3, 2, 1))
    target = make_affine(target_shape, (0.9, 1.3, 2.5), (12, -20, 25), (3, 2, 1), flips=(1, -1, 1))
    slope = np.random.default_rng(1).normal(size=(3, 3))

    def linear(affine, shape):
        return np.tensordot(slope, points(affine, shape), axes=1)

    resampled = resample_displacement(linear(affine, shape).astype(np.float32), affine, target, target_shape)
    np.testing.assert_allclose(resampled, linear(target, target_shape), atol=1e-4)

    ramp = np.broadcast_to(np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1), (3, 4, 4, 4))
    beyond = np.eye(4)
    beyond[0, 3] = -2
    np.testing.assert_allclose(
        resample_displacement(ramp, np.eye(4), beyond, (8, 4, 4))[1, :, 2, 2], [0, 0, 0, 1, 2, 3, 3, 3]
    )


def test_pulled_image_by_hand():
    # Voxels 0, 10, 20, 30 along the first axis, 2 mm apart; points at 0, 1, ..., 9 mm shifted by 1 mm.
    image = np.broadcast_to(np.float32([0, 10, 20, 30]).reshape(4, 1, 1), (4, 2, 2))
    field = np.zeros((3, 10, 2, 2), dtype=np.float32)
    field[0] = 1
    pulled = pull_image(image, np.diag([2.0, 1, 1, 1]), field, np.eye(4), background=-7)
    # 7 mm is half a voxel (1 mm) beyond the last centre (6 mm): outside, as in ITK.
    np.testing.assert_allclose(pulled[:, 1, 1], [5, 10, 15, 20, 25, 30, -7, -7, -7, -7])
    nearest = pull_image(image.astype(np.int16), np.diag([2.0, 1, 1, 1]), field, np.eye(4), 0, nearest=True)
    assert nearest.dtype == np.int16 and set(nearest[:, 0, 0].tolist()) <= {0, 10, 20, 30}


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("slab_voxels", [world.SLAB_VOXELS, 50])
def test_pulled_image_is_what_itk_resamples_up_to_the_border(tmp_path, monkeypatch, nearest, slab_voxels):
    monkeypatch.setattr(world, "SLAB_VOXELS", slab_voxels)
    generator = np.random.default_rng(2)
    image = generator.normal(size=(9, 8, 7)).astype(np.float32)
    field = generator.normal(0, 2, (3, 10, 9, 8)).astype(np.float32)
    grid = make_affine((10, 9, 8), (1.1, 0.8, 2.0), (-15, 10, 40), (30, -40, 60)).astype(np.float32).astype(float)
    affine = MOVING.astype(np.float32).astype(float)
    write_volume(tmp_path / "moving.nii", image, affine)
    write_volume(tmp_path / "fixed.nii", field[0], grid)
    write_displacement_field(tmp_path / "field.nii", field, grid)
    expected = itk_resample(
        tmp_path / "moving.nii", itk_read_field(tmp_path / "field.nii"), tmp_path / "fixed.nii", -9, nearest
    )
    pulled = pull_image(image, affine, field, grid, -9, nearest)
    assert 0.05 < (expected == -9).mean() < 0.6  # the test looks beyond the border too
    assert np.array_equal(pulled == -9, expected == -9)
    np.testing.assert_allclose(pulled, expected, atol=0 if nearest else 2e-4)


def test_the_planted_pair_by_the_chain_of_functions():
    shape = (24, 22, 20)
    fixed_affine = make_affine(shape, (1.8, 1.8, 1.8), (-15, 10, 40), (-15, 25, 10))
    moving_affine = make_affine(shape, (1.8, 1.8, 1.8), (12, -20, 25), (30, -40, 60))
    to = corresponding_point(points(fixed_affine, shape))
    inverse = np.linalg.inv(moving_affine)
    voxel = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    displacement = np.tensordot(inverse[:3, :3], to, axes=1) + inverse[:3, 3].reshape(3, 1, 1, 1) - voxel
    field = world_displacement(displacement.astype(np.float32), moving_affine, fixed_affine)
    np.testing.assert_allclose(field, to - points(fixed_affine, shape), atol=1e-4)
    image_affine = make_affine((90, 80, 70), (0.9, 1.3, 1.5), (40, 5, -25), (30, -40, 60))
    image = moving_value(points(image_affine, (90, 80, 70))).astype(np.float32)
    pulled = pull_image(image, image_affine, field, fixed_affine, background=np.nan)
    inside = np.isfinite(pulled)
    assert inside.mean() > 0.9
    assert np.abs(pulled - moving_value(to))[inside].max() < 0.01 * np.ptp(image)
