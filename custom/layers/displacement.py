# SPDX-License-Identifier: Apache-2.0
"""Displacement fields: the fusion of an affine map with a local field, and the Jacobian."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .affine import affine_to_displacement, voxel_affine
from .warping import warp


def fuse(
    affine_matrix: torch.Tensor, displacement: torch.Tensor, spacing: Sequence[float] = (1.0, 1.0, 1.0)
) -> torch.Tensor:
    """One field for the local displacement phi and then the affine map M: u(p) = M(p + phi(p)) - p.

    The deformable head sees f_A(M p) and f_B(p), so phi is defined on the fixed grid and M acts last. x_A(p + u(p)) is
    x_A warped by M and then by phi, with one interpolation instead of two.

    Args:
        affine_matrix: M, (N, 3, 4), in millimetres from the centre of the volume.
        displacement: phi, (N, 3, *spatial), in voxels.
        spacing: millimetres per voxel of each axis.

    Returns:
        u, (N, 3, *spatial), in voxels.
    """
    linear, _ = voxel_affine(affine_matrix, spacing)
    moved = torch.einsum("nij,njxyz->nixyz", linear, displacement)
    return moved + affine_to_displacement(affine_matrix, displacement.shape[2:], spacing)


def fuse_equation_12(
    affine_matrix: torch.Tensor, displacement: torch.Tensor, spacing: Sequence[float] = (1.0, 1.0, 1.0)
) -> torch.Tensor:
    """The fusion of the paper's equation 12 (appendix): u(p) = phi(p') + p' - p with p' = M p.

    It takes phi at M p, not at the voxel p for which the head predicted it. Arguments and result as for `fuse`.
    """
    affine_displacement = affine_to_displacement(affine_matrix, displacement.shape[2:], spacing)
    return warp(displacement, affine_displacement, padding_mode="border") + affine_displacement


def jacobian_determinant(displacement: torch.Tensor) -> torch.Tensor:
    """Jacobian determinant of the map p -> p + u(p), by forward differences.

    The map is folded at a voxel where the determinant is not positive.

    Args:
        displacement: u, (N, 3, *spatial), in voxels.

    Returns:
        (N, *(spatial - 1)); 1 for zero displacement.
    """
    inner = [slice(None, -1)] * 3
    columns = []
    for axis in range(3):
        ahead = list(inner)
        ahead[axis] = slice(1, None)
        columns.append(displacement[(..., *ahead)] - displacement[(..., *inner)])
    gradient = torch.stack(columns, dim=-1).movedim(1, -2)
    return torch.linalg.det(gradient + torch.eye(3, dtype=gradient.dtype, device=gradient.device))


def folded_share(displacement: torch.Tensor) -> torch.Tensor:
    """Share of folded voxels (see `jacobian_determinant`), (N,), in [0, 1]."""
    return (jacobian_determinant(displacement) <= 0).float().flatten(1).mean(1)
