# SPDX-License-Identifier: Apache-2.0
"""The keypoint affine head: the affine map between the positions of the same features in both volumes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..layers import at_least_float32, constant


class KeypointAffineHead(nn.Module):
    """Bottleneck features of both volumes -> affine map in closed form, from keypoints.

    A keypoint is the position of one learned feature in a volume. A 1x1x1 convolution gives a heat map for each
    keypoint; softmax over space makes it a distribution, whose centre of mass is the keypoint. The result is the
    least-squares affine map from the keypoints of the fixed volume to those of the moving one (Wang et al., "A robust
    and interpretable deep learning framework for multi-modal registration via keypoints", 2023); a ridge penalty pulls
    its linear part to the identity. The positions are computed, not learned, so the map follows the volumes from the
    first step on. The paper's head (`AffineHead`) has to learn positions from features averaged over space.

    Args:
        in_channels: channels of the bottleneck of one volume.
        stride: side of a bottleneck cell in voxels, 2^(levels - 1).
        spacing: millimetres per voxel of each axis of the volumes.
        keypoints: number of keypoints.
        temperature: temperature of the softmax; a small one gives sharp heat maps.
        ridge: strength of the ridge, in cells: it acts like keypoints at rest with this standard deviation.
    """

    def __init__(
        self,
        in_channels: int,
        stride: int,
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
        keypoints: int = 64,
        temperature: float = 0.2,
        ridge: float = 0.18,
    ) -> None:
        super().__init__()
        self.heat = nn.Conv3d(in_channels, keypoints, 1, bias=False)
        self.cell = tuple(stride * step for step in spacing)
        self.temperature = temperature
        self.ridge = ridge

    def keypoints(self, bottleneck: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, *cells) -> (N, keypoints, 3), millimetres from the grid's centre, axes in array order."""
        heat = at_least_float32(self.heat(bottleneck)) / self.temperature
        share = heat.flatten(2).softmax(dim=-1).view_as(heat)
        return centres_of_mass(share) * constant(self.cell, share)

    def forward(self, moving: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        """Two (N, in_channels, *cells) -> affine maps (N, 3, 4), in at least float32.

        The maps take positions in the fixed volume to positions in the moving volume, in millimetres from the centre.
        """
        source, target = self.keypoints(fixed), self.keypoints(moving)
        with torch.autocast(moving.device.type, enabled=False):
            return fit_affine(source, target, [self.ridge * side for side in self.cell])


def centres_of_mass(share: torch.Tensor) -> torch.Tensor:
    """Distributions (N, C, *spatial), each of sum 1, three axes -> (N, C, 3), in cells from the centre of the grid."""
    axes = [torch.arange(side, dtype=share.dtype, device=share.device) - (side - 1) / 2 for side in share.shape[2:]]
    position = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    return torch.einsum("ncxyz,axyz->nca", share, position)


def fit_affine(source: torch.Tensor, target: torch.Tensor, ridge: Sequence[float]) -> torch.Tensor:
    """The affine map x -> L x + t with the least mean |L x_k + t - y_k|^2 + sum_i ridge_i^2 |column i of L - I|^2.

    Args:
        source: points x_k, (N, K, 3).
        target: points y_k, (N, K, 3).
        ridge: three lengths in the unit of the points; with positive lengths the map is unique for any points.

    Returns:
        (N, 3, 4): L, then t.
    """
    source_centre, target_centre = source.mean(1, keepdim=True), target.mean(1, keepdim=True)
    position, departure = source - source_centre, (target - target_centre) - (source - source_centre)
    penalty = torch.diag(constant([length**2 for length in ridge], source)) * source.shape[1]
    normal = position.transpose(1, 2) @ position + penalty
    transposed, _ = torch.linalg.solve_ex(normal, position.transpose(1, 2) @ departure)  # solve waits for the GPU
    linear = transposed.transpose(1, 2) + torch.eye(3, dtype=source.dtype, device=source.device)
    translation = target_centre.transpose(1, 2) - linear @ source_centre.transpose(1, 2)
    return torch.cat((linear, translation), dim=2)
