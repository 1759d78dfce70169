# SPDX-License-Identifier: Apache-2.0
"""The conventions of the GVSL authors' released code, for loading their weights; nothing else should use them.

Where they differ from ours: the matrix is Sh S Rz Ry Rx in normalised coordinates with x the last spatial axis, the
translation column is divided by the sides of axis 0, 1, 2 in that order, sampling positions are normalised by side - 1
and sampled by side (so zero displacement is not the identity), and an image is interpolated twice.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from .affine import compose_affine, rotation_matrix, shear_matrix


def authors_affine_matrix(
    rotation: torch.Tensor, scale: torch.Tensor, translation: torch.Tensor, shear: torch.Tensor
) -> torch.Tensor:
    """Sh S Rz Ry Rx | t, (N, 3, 4), rows x, y, z with x the last spatial axis.

    Args:
        rotation, scale, translation: (N, 3) for x, y, z; radians, factors, and what the warp divides by the sides.
        shear: (N, 6) = (xy, xz, yx, yz, zx, zy), after the tangent.
    """
    return compose_affine(shear_matrix(shear) @ (scale.unsqueeze(-1) * rotation_matrix(rotation)), translation)


def authors_affine_warp(image: torch.Tensor, affine_matrix: torch.Tensor) -> torch.Tensor:
    """Sample image (N, C, *spatial) under a matrix of `authors_affine_matrix`."""
    sides = affine_matrix.new_tensor(image.shape[2:])
    theta = torch.cat((affine_matrix[:, :, :3], (affine_matrix[:, :, 3] / sides).unsqueeze(-1)), dim=-1)
    grid = F.affine_grid(theta, list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, align_corners=False)


def authors_flow_warp(image: torch.Tensor, displacement: torch.Tensor) -> torch.Tensor:
    """Sample image (N, C, *spatial) at p + displacement (N, 3, *spatial), voxels, with the authors' normalisation."""
    axes = []
    for axis, side in enumerate(image.shape[2:]):
        along_axis = [1, 1, 1]
        along_axis[axis] = side
        position = torch.arange(side, dtype=displacement.dtype, device=displacement.device).view(along_axis)
        axes.append(2 * ((position + displacement[:, axis]) / (side - 1) - 0.5))
    return F.grid_sample(image, torch.stack(axes[::-1], dim=-1), align_corners=False)


def authors_displacement(affine_matrix: torch.Tensor, displacement: torch.Tensor) -> torch.Tensor:
    """Where the two warps, affine then flow, read the image: (N, 3, *spatial) in voxels relative to each voxel."""
    sides = displacement.new_tensor(displacement.shape[2:])
    voxel = torch.stack(
        torch.meshgrid(*(torch.arange(side).to(sides) for side in displacement.shape[2:]), indexing="ij"), dim=-1
    )
    sampled = (voxel + displacement.movedim(1, -1)) * sides / (sides - 1) - 0.5
    normalised = ((2 * sampled + 1) / sides - 1).flip(-1)
    translation = (affine_matrix[:, :, 3] / sides)[:, None, None, None]
    moved = (torch.einsum("nij,nxyzj->nxyzi", affine_matrix[:, :, :3], normalised) + translation).flip(-1)
    return (((moved + 1) * sides - 1) / 2 - voxel).movedim(-1, 1)
