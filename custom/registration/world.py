# SPDX-License-Identifier: Apache-2.0
"""Displacement fields in millimetres: computed from voxels, resampled to another grid, applied to an image.

A field d maps the point x of the fixed image to the point x + d(x) of the moving image. Points and displacements are
in millimetres, RAS. An affine is the (4, 4) matrix from voxels (array order) to points. All arrays are NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import affine_transform, map_coordinates

SLAB_VOXELS = 2**22  # number of voxels whose positions (float64) are in memory at a time


def world_displacement(displacement: np.ndarray, moving_affine: np.ndarray, fixed_affine: np.ndarray) -> np.ndarray:
    """d at the voxels p of the fixed grid: A_m (p + u(p)) - A_f p.

    Args:
        displacement: u, (3, *spatial), in voxels; the fixed voxel p corresponds to the moving voxel p + u(p).
        moving_affine: A_m, from voxels of the moving grid to millimetres.
        fixed_affine: A_f, from voxels of the fixed grid to millimetres.

    Returns:
        (3, *spatial), millimetres, RAS, float32.

    Raises:
        ValueError: the displacement is not of shape (3, *spatial) with three axes.
    """
    if displacement.ndim != 4 or displacement.shape[0] != 3:
        raise ValueError(f"displacement must have shape (3, *spatial) with three axes, got {displacement.shape}")
    voxel = np.ogrid[tuple(slice(side) for side in displacement.shape[1:])]
    difference = moving_affine - fixed_affine
    field = np.empty(displacement.shape, dtype=np.float32)
    for row in range(3):
        grids_apart = sum(difference[row, axis] * voxel[axis] for axis in range(3)) + difference[row, 3]
        field[row] = grids_apart + sum(moving_affine[row, axis] * displacement[axis] for axis in range(3))
    return field


def resample_displacement(
    field: np.ndarray, affine: np.ndarray, target_affine: np.ndarray, target_shape: Sequence[int]
) -> np.ndarray:
    """Resample a field to another grid, trilinear; outside its grid the field has the values of the border.

    Args:
        field: (3, *spatial), millimetres, RAS.
        affine: affine of the grid of the field.
        target_affine: affine of the other grid.
        target_shape: number of voxels of the other grid along each axis.

    Returns:
        (3, *target_shape), float32.
    """
    matrix = np.linalg.solve(affine, target_affine)
    resampled = np.empty((3, *target_shape), dtype=np.float32)
    for channel in range(3):
        affine_transform(field[channel], matrix, output=resampled[channel], order=1, mode="nearest")
    return resampled


def pull_image(
    image: np.ndarray,
    affine: np.ndarray,
    field: np.ndarray,
    field_affine: np.ndarray,
    background: float,
    nearest: bool = False,
) -> np.ndarray:
    """Sample the moving image at x + d(x), where x is the centre of each voxel of the field.

    As in ITK, an image ends half a voxel outside the centres of its outermost voxels and has their values up to there.

    Args:
        image: the moving image, (*spatial).
        affine: affine of the moving image.
        field: d, (3, *spatial_out), millimetres, RAS.
        field_affine: affine of the grid of the field.
        background: value outside the image.
        nearest: take the nearest voxel instead of trilinear interpolation, for label maps.

    Returns:
        (*spatial_out), in the type of the image.
    """
    pulled = np.empty(field.shape[1:], dtype=image.dtype)
    rows = max(SLAB_VOXELS // (field.shape[2] * field.shape[3]), 1)
    for start in range(0, field.shape[1], rows):
        slab = field[:, start : start + rows]
        position, inside = moving_voxels(slab, affine, rows_from(field_affine, start), image.shape)
        out = pulled[start : start + rows]
        map_coordinates(image, position, output=out, order=0 if nearest else 1, mode="nearest")
        out[~inside] = background
    return pulled


def moving_voxels(
    field: np.ndarray, affine: np.ndarray, field_affine: np.ndarray, shape: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Where the voxels of a field lie in the moving image.

    Args:
        field: d, (3, *spatial_out), millimetres, RAS.
        affine: affine of the moving image.
        field_affine: affine of the grid of the field.
        shape: of the moving image.

    Returns:
        x + d(x) in voxels of the moving image, (3, *spatial_out), float64; and whether it is inside, (*spatial_out).
    """
    to_voxels = np.linalg.inv(affine)
    matrix = to_voxels @ field_affine
    i, j, k = np.ogrid[tuple(slice(side) for side in field.shape[1:])]
    position = np.tensordot(to_voxels[:3, :3], field, axes=1)
    for axis in range(3):
        position[axis] += matrix[axis, 0] * i + matrix[axis, 1] * j + matrix[axis, 2] * k + matrix[axis, 3]
    sides = np.reshape(shape, (3, 1, 1, 1))
    return position, ((position >= -0.5) & (position < sides - 0.5)).all(axis=0)


def rows_from(affine: np.ndarray, start: int) -> np.ndarray:
    """The affine of a grid without its first `start` rows of the first axis."""
    moved = np.array(affine, dtype=np.float64)
    moved[:3, 3] += start * moved[:3, 0]
    return moved
