# SPDX-License-Identifier: Apache-2.0
"""Refinement of the affine map of a registered pair, before that of its displacement (`custom.registration.refine`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F

from ..layers import PhysicalConventions
from ..losses import LocalNCCLoss

WINDOW = 5  # of the correlation, in blocks


def refine_affine(
    moving: torch.Tensor,
    fixed: torch.Tensor,
    matrix: torch.Tensor,
    spacing: Sequence[float],
    *,
    steps: int,
    learning_rate: float = 4.0,
    levels: Sequence[int] = (4, 2),
) -> torch.Tensor:
    """Minimises the registration loss over the affine map of one pair, with Adam, from coarse to fine.

        min over D, t:  1 - NCC(x_A(M(p)), x_B(p)),   M(p) = (I + D / h) L_0 p + t_0 + t

    L_0 and t_0 are the given map; h is the root mean square of the half sides of the volume, so that D, like t, is in
    millimetres. At a level the volumes are means over blocks, and the learning rate falls to zero. The result is the
    given map if its loss at the last level is smaller.

    Args:
        moving: x_A, (1, C, *spatial).
        fixed: x_B, the same shape.
        matrix: L_0 and t_0, (1, 3, 4), in millimetres from the centre, see `PhysicalConventions`.
        spacing: millimetres per voxel of each axis.
        steps: number of Adam steps at each level; 0 returns the given map.
        learning_rate: of Adam at the start of each level, in millimetres per step.
        levels: side of a block in voxels at each level.

    Returns:
        (1, 3, 4), float32, without gradient.
    """
    start = matrix.detach().float()
    sides = torch.tensor([side * step for side, step in zip(fixed.shape[2:], spacing, strict=True)])
    half_side = float(sides.square().mean().sqrt()) / 2
    change = start.new_zeros(1, 3, 4).requires_grad_()

    def changed() -> torch.Tensor:
        linear = start[:, :, :3] + change[:, :, :3] / half_side @ start[:, :, :3]
        return torch.cat((linear, start[:, :, 3:] + change[:, :, 3:]), dim=2)

    with torch.enable_grad(), torch.autocast(start.device.type, enabled=False):
        for side in levels:
            loss = loss_of_blocks(moving, fixed, spacing, side)
            optimizer = torch.optim.Adam([change], learning_rate)
            falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=max(steps, 1))
            for _ in range(steps):
                optimizer.zero_grad()
                loss(changed()).backward()
                optimizer.step()
                falling.step()
    with torch.no_grad():
        last = loss_of_blocks(moving, fixed, spacing, levels[-1])
        return changed() if last(changed()) < last(start) else start


def loss_of_blocks(
    moving: torch.Tensor, fixed: torch.Tensor, spacing: Sequence[float], side: int
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function M (1, 3, 4) -> 1 - NCC of the volumes under M, both as means over blocks of about `side` voxels."""
    coarse_moving, coarse_fixed = (means_of_blocks(volume.detach().float(), side) for volume in (moving, fixed))
    shapes = zip(spacing, fixed.shape[2:], coarse_fixed.shape[2:], strict=True)
    conventions = PhysicalConventions([step * voxels / blocks for step, voxels, blocks in shapes])
    correlation = LocalNCCLoss(window=WINDOW)
    return lambda matrix: correlation(conventions.warp_affine(coarse_moving, matrix), coarse_fixed)


def means_of_blocks(volume: torch.Tensor, side: int) -> torch.Tensor:
    """A volume (N, C, *spatial) averaged over blocks of about `side` voxels; it keeps its extent and its centre."""
    return F.interpolate(volume, size=[max(round(voxels / side), 1) for voxels in volume.shape[2:]], mode="area")
