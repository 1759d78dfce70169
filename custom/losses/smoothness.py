# SPDX-License-Identifier: Apache-2.0
"""Smoothness of a displacement field (He et al., CVPR 2023, equation 2)."""

from __future__ import annotations

import torch
from torch import nn

from ..layers import in_float32


def smoothness_loss(displacement: torch.Tensor) -> torch.Tensor:
    """Mean squared forward difference: the mean over voxels and channels for each axis, then over the axes.

    Forward differences penalise a checkerboard, which the central differences of monai.losses.DiffusionLoss do not.

    Args:
        displacement: (N, 3, *spatial), in voxels.

    Returns:
        (N,), dimensionless; 0 for a constant field.

    Raises:
        ValueError: another shape, or a side of one voxel, along which there is no difference.
    """
    if displacement.ndim != 5 or displacement.shape[1] != 3:
        raise ValueError(f"displacement must have shape (N, 3, *spatial), got {tuple(displacement.shape)}")
    if min(displacement.shape[2:]) < 2:
        raise ValueError(f"displacement must have sides of 2 voxels or more, got shape {tuple(displacement.shape)}")
    return torch.stack([displacement.diff(dim=axis).square().flatten(1).mean(1) for axis in (2, 3, 4)]).mean(0)


class SmoothnessLoss(nn.Module):
    """`smoothness_loss`, averaged over the batch, in float32 also under autocast."""

    def forward(self, displacement: torch.Tensor) -> torch.Tensor:
        """(N, 3, *spatial) -> scalar."""
        return in_float32(smoothness_loss, displacement).mean()
