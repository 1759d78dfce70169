# SPDX-License-Identifier: Apache-2.0
"""The warping layer: samples a volume at displaced voxel positions."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from .precision import at_least_float32


def warp(
    image: torch.Tensor, displacement: torch.Tensor, mode: str = "bilinear", padding_mode: str = "zeros"
) -> torch.Tensor:
    """output(p) = image(p + displacement(p)), in float32 (or float64) also under autocast.

    Args:
        image: (N, C, *spatial).
        displacement: (N, 3, *spatial_out), channel c along spatial axis c in array order, in voxels of `image`.
        mode: "bilinear" (trilinear for volumes) or "nearest".
        padding_mode: the values outside of `image`: "zeros", or "border" for those of the nearest voxel.

    Returns:
        (N, C, *spatial_out).

    Raises:
        ValueError: the shapes do not fit together.
    """
    if image.ndim != 5:
        raise ValueError(f"image must have shape (N, C, *spatial) with three spatial axes, got {tuple(image.shape)}")
    if displacement.ndim != 5 or displacement.shape[:2] != (image.shape[0], 3):
        expected = f"({image.shape[0]}, 3, *spatial)"
        raise ValueError(f"displacement must have shape {expected}, got {tuple(displacement.shape)}")
    with torch.autocast(image.device.type, enabled=False):
        image = at_least_float32(image)
        grid = _sampling_grid(displacement.to(image.dtype), tuple(image.shape[2:]))
        if image.device.type == "cpu" and len(image) == 1:
            return _sample_in_slabs(image, grid, mode, padding_mode)
        return F.grid_sample(image, grid, mode=mode, padding_mode=padding_mode, align_corners=False)


def _sample_in_slabs(image: torch.Tensor, grid: torch.Tensor, mode: str, padding_mode: str) -> torch.Tensor:
    """`grid_sample` of one volume on the CPU, which uses several threads for a batch but not for a single volume.

    The grid is cut into two slabs, which form a batch. Two for any number of threads: results do not depend on it.
    """
    slabs = 2 if grid.shape[1] % 2 == 0 else 1
    grid = grid.unflatten(1, (slabs, -1)).squeeze(0)
    image = image.expand(slabs, -1, -1, -1, -1)
    sampled = F.grid_sample(image, grid, mode=mode, padding_mode=padding_mode, align_corners=False)
    return sampled.transpose(0, 1).flatten(1, 2).unsqueeze(0)


def _sampling_grid(displacement: torch.Tensor, image_shape: tuple[int, ...]) -> torch.Tensor:
    """Displacements in voxels -> positions for `grid_sample`: (N, *spatial_out, 3), in [-1, 1], last axis first."""
    axes = []
    for axis, (side, side_out) in enumerate(zip(image_shape, displacement.shape[2:], strict=True)):
        position = _voxel_centres(side, torch.arange(side_out, dtype=displacement.dtype, device=displacement.device))
        along_axis = [1, 1, 1]
        along_axis[axis] = side_out
        axes.append(displacement[:, axis] * (2 / side) + position.view(along_axis))
    return torch.stack(axes[::-1], dim=-1)


def _voxel_centres(side: int, voxel: torch.Tensor) -> torch.Tensor:
    """Normalised coordinates (align_corners=False) of the voxels 0, 1, ... of an axis of `side` voxels.

    `grid_sample` converts x back to ((x + 1) side - 1) / 2. In float32, rounding would miss the centre of the voxel by
    up to 1e-5 voxel. One correction by this error makes zero displacement the identity.
    """
    centre = (2 * voxel + 1) / side - 1
    return centre + (voxel - ((centre + 1) * side - 1) / 2) * (2 / side)
