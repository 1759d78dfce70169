# SPDX-License-Identifier: Apache-2.0
"""Affine matrices, batched and differentiable: x -> R S Sh x + t, in millimetres from the centre of the volume."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .constants import constant


def rotation_matrix(rotation: torch.Tensor) -> torch.Tensor:
    """Rotation about the spatial axes 0, 1, 2, in this order: R = R2 R1 R0.

    Args:
        rotation: (N, 3) angles in radians, one for each spatial axis in array order.

    Returns:
        (N, 3, 3) orthonormal matrices, rows and columns in array order.
    """
    (c0, c1, c2), (s0, s1, s2) = rotation.cos().unbind(-1), rotation.sin().unbind(-1)
    entries = (
        *(c1 * c2, s0 * s1 * c2 - c0 * s2, c0 * s1 * c2 + s0 * s2),
        *(c1 * s2, s0 * s1 * s2 + c0 * c2, c0 * s1 * s2 - s0 * c2),
        *(-s1, s0 * c1, c0 * c1),
    )
    return torch.stack(entries, dim=-1).unflatten(-1, (3, 3))


def shear_matrix(shear: torch.Tensor) -> torch.Tensor:
    """Matrix with a diagonal of ones and the shear in the other entries.

    Args:
        shear: (N, 6), the entries 01, 02, 10, 12, 20, 21; dimensionless.

    Returns:
        (N, 3, 3).
    """
    s01, s02, s10, s12, s20, s21 = shear.unbind(-1)
    one = torch.ones_like(s01)
    return torch.stack((one, s01, s02, s10, one, s12, s20, s21, one), dim=-1).unflatten(-1, (3, 3))


def linear_matrix(rotation: torch.Tensor, scale: torch.Tensor, shear: torch.Tensor) -> torch.Tensor:
    """R S Sh (appendix of the GVSL paper): a point is sheared, then scaled, then rotated.

    Args:
        rotation: (N, 3), see `rotation_matrix`.
        scale: (N, 3) factors.
        shear: (N, 6), see `shear_matrix`.

    Returns:
        (N, 3, 3), acting on millimetres in array order.
    """
    return rotation_matrix(rotation) @ (scale.unsqueeze(-1) * shear_matrix(shear))


def compose_affine(linear: torch.Tensor, translation: torch.Tensor) -> torch.Tensor:
    """(N, 3, 3) and (N, 3) in millimetres -> (N, 3, 4), the map x -> L x + t."""
    return torch.cat((linear, translation.unsqueeze(-1)), dim=-1)


def affine_to_displacement(
    affine_matrix: torch.Tensor, spatial_shape: Sequence[int], spacing: Sequence[float] = (1.0, 1.0, 1.0)
) -> torch.Tensor:
    """Displacement of every voxel under an affine map.

    With D the spacing and c the centre, u(p) = D^-1 (L D (p - c) + t) + c - p.

    Args:
        affine_matrix: (N, 3, 4), in millimetres from the centre of the volume, axes in array order.
        spatial_shape: the three sides in voxels.
        spacing: millimetres per voxel of each axis.

    Returns:
        (N, 3, *spatial_shape), in voxels; zero for the identity matrix.

    Raises:
        ValueError: `affine_matrix` has another shape.
    """
    if affine_matrix.ndim != 3 or affine_matrix.shape[1:] != (3, 4):
        raise ValueError(f"affine_matrix must have shape (N, 3, 4), got {tuple(affine_matrix.shape)}")
    linear, translation = voxel_affine(affine_matrix, spacing)
    linear = linear - torch.eye(3, dtype=linear.dtype, device=linear.device)
    displacement = translation[:, :, None, None, None]
    for axis, side in enumerate(spatial_shape):
        position = torch.arange(side, dtype=linear.dtype, device=linear.device) - (side - 1) / 2
        along_axis = [1, 1, 1]
        along_axis[axis] = side
        displacement = displacement + (linear[:, :, axis, None] * position).unflatten(-1, along_axis)
    return displacement


def voxel_affine(affine_matrix: torch.Tensor, spacing: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """An affine map L, t in millimetres, (N, 3, 4), in voxels of spacing D: D^-1 L D, (N, 3, 3), and D^-1 t, (N, 3)."""
    millimetres = constant(spacing, affine_matrix)
    linear = affine_matrix[:, :, :3] * millimetres / millimetres[:, None]
    return linear, affine_matrix[:, :, 3] / millimetres
