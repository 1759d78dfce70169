# SPDX-License-Identifier: Apache-2.0
"""The geometry of the GVSL authors' released code, for weights that were trained with it and for nothing else.

Where it differs from ours: the matrix is Sh S Rz Ry Rx in normalised coordinates, x is the last spatial axis; the
translation column is divided by the sides of axes 0, 1, 2 in this order; sampling positions are normalised by side - 1
and sampled by side, so that zero displacement is not the identity; an image is interpolated twice.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from .affine import compose_affine, rotation_matrix, shear_matrix
from .constants import constant


def authors_affine_matrix(
    rotation: torch.Tensor, scale: torch.Tensor, translation: torch.Tensor, shear: torch.Tensor
) -> torch.Tensor:
    """Sh S Rz Ry Rx | t, (N, 3, 4), rows x, y, z with x the last spatial axis.

    Args:
        rotation: (N, 3) for x, y, z, in radians.
        scale: (N, 3) factors for x, y, z.
        translation: (N, 3) for x, y, z; the warp divides it by the sides.
        shear: (N, 6), the entries xy, xz, yx, yz, zx, zy, which are tangents of angles.
    """
    return compose_affine(shear_matrix(shear) @ (scale.unsqueeze(-1) * rotation_matrix(rotation)), translation)


def authors_affine_warp(image: torch.Tensor, affine_matrix: torch.Tensor) -> torch.Tensor:
    """Samples an image (N, C, *spatial) under a matrix of `authors_affine_matrix`."""
    sides = constant(image.shape[2:], affine_matrix)
    theta = torch.cat((affine_matrix[:, :, :3], (affine_matrix[:, :, 3] / sides).unsqueeze(-1)), dim=-1)
    grid = F.affine_grid(theta, list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, align_corners=False)


def authors_flow_warp(image: torch.Tensor, displacement: torch.Tensor) -> torch.Tensor:
    """Samples an image (N, C, *spatial) at p + displacement, (N, 3, *spatial) in voxels, normalised as in the code."""
    axes = []
    for axis, side in enumerate(image.shape[2:]):
        along_axis = [1, 1, 1]
        along_axis[axis] = side
        position = torch.arange(side, dtype=displacement.dtype, device=displacement.device).view(along_axis)
        axes.append(2 * ((position + displacement[:, axis]) / (side - 1) - 0.5))
    return F.grid_sample(image, torch.stack(axes[::-1], dim=-1), align_corners=False)


def authors_displacement(affine_matrix: torch.Tensor, displacement: torch.Tensor) -> torch.Tensor:
    """The displacement, (N, 3, *spatial) in voxels, at which the affine warp and then the flow warp sample an image."""
    sides = constant(displacement.shape[2:], displacement)
    voxel = torch.stack(
        torch.meshgrid(
            *(torch.arange(side, dtype=sides.dtype, device=sides.device) for side in displacement.shape[2:]),
            indexing="ij",
        ),
        dim=-1,
    )
    sampled = (voxel + displacement.movedim(1, -1)) * sides / (sides - 1) - 0.5
    normalised = ((2 * sampled + 1) / sides - 1).flip(-1)
    translation = (affine_matrix[:, :, 3] / sides)[:, None, None, None]
    moved = (torch.einsum("nij,nxyzj->nxyzi", affine_matrix[:, :, :3], normalised) + translation).flip(-1)
    return (((moved + 1) * sides - 1) / 2 - voxel).movedim(-1, 1)
