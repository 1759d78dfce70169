# SPDX-License-Identifier: Apache-2.0
"""Random places of volumes, and values of volumes at places."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..layers import to_device, warp


def draw_places(seeds: Sequence[int], spatial_shape: Sequence[int], count: int, device: torch.device) -> torch.Tensor:
    """Voxels that are drawn uniformly, with replacement, on the CPU: they depend on the seeds alone.

    Args:
        seeds: one for each volume.
        spatial_shape: sides of the volumes in voxels.
        count: places of each volume.
        device: of the result.

    Returns:
        (N, 3, count), whole numbers as float32, axes in array order.
    """
    sides = torch.tensor(spatial_shape, dtype=torch.float32)[:, None]
    drawn = [torch.rand(3, count, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
    return to_device((torch.stack(drawn) * sides).floor().minimum(sides - 1), device)


def at_places(volume: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """Trilinear samples of volumes, zero outside.

    Args:
        volume: (N, C, *spatial).
        position: (N, 3, places), in voxels, axes in array order.

    Returns:
        (N, C, places).
    """
    from_voxel_0 = position[..., None, None].clone()  # `warp` counts from the voxels of its output, (places, 1, 1)
    from_voxel_0[:, 0] -= torch.arange(position.shape[2], device=position.device)[:, None, None]
    return warp(volume, from_voxel_0).flatten(2)
