# SPDX-License-Identifier: Apache-2.0
"""The keypoint affine head: where each bottleneck channel lies in either volume, and the affine map between the two."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..layers import at_least_float32


class KeypointAffineHead(nn.Module):
    """Bottleneck features of both volumes -> affine map in closed form, by keypoints.

    A 1x1x1 convolution gives one heat map for each keypoint; softmax over space makes it a distribution, whose centre
    of mass is the keypoint. The map is the least-squares affine map from the keypoints of the fixed volume to those of
    the moving one (Wang et al., "A robust and interpretable deep learning framework for multi-modal registration via
    keypoints", 2023), pulled to the identity by a ridge on its linear part. Where features lie is read off instead of
    learnt, so the map follows the volumes from the first step on; the paper's head (`AffineHead`) has to learn it from
    pooled features.

    Args:
        in_channels: channels of the bottleneck of one volume.
        stride: side of a bottleneck cell in voxels, 2^(levels - 1).
        spacing: millimetres per voxel of each axis of the volumes.
        keypoints: how many.
        temperature: of the softmax; small ones give sharp heat maps.
        ridge: in cells. The linear part is held as by keypoints that lie still and spread by this much.
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
        return centres_of_mass(share) * share.new_tensor(self.cell)

    def forward(self, moving: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        """Two (N, in_channels, *cells) -> (N, 3, 4), from positions in the fixed to positions in the moving volume, in
        millimetres about the centre, at least float32."""
        source, target = self.keypoints(fixed), self.keypoints(moving)
        with torch.autocast(moving.device.type, enabled=False):
            return fit_affine(source, target, [self.ridge * side for side in self.cell])


def centres_of_mass(share: torch.Tensor) -> torch.Tensor:
    """Distributions (N, C, *spatial), each of sum 1, three axes -> (N, C, 3), in cells from the centre of the grid."""
    axes = [torch.arange(side).to(share) - (side - 1) / 2 for side in share.shape[2:]]
    position = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    return torch.einsum("ncxyz,axyz->nca", share, position)


def fit_affine(source: torch.Tensor, target: torch.Tensor, ridge: Sequence[float]) -> torch.Tensor:
    """The affine map x -> L x + t with the least mean |L x_k + t - y_k|^2 + sum_i ridge_i^2 |column i of L - I|^2.

    Args:
        source, target: points x_k and y_k, (N, K, 3).
        ridge: three lengths, in the unit of the points; where they are positive, any points have one best map.

    Returns:
        (N, 3, 4): L, then t.
    """
    source_centre, target_centre = source.mean(1, keepdim=True), target.mean(1, keepdim=True)
    position, departure = source - source_centre, (target - target_centre) - (source - source_centre)
    penalty = torch.diag(source.new_tensor([length**2 for length in ridge])) * source.shape[1]
    normal = position.transpose(1, 2) @ position + penalty
    transposed = torch.linalg.solve(normal, position.transpose(1, 2) @ departure)
    linear = transposed.transpose(1, 2) + torch.eye(3, dtype=source.dtype, device=source.device)
    translation = target_centre.transpose(1, 2) - linear @ source_centre.transpose(1, 2)
    return torch.cat((linear, translation), dim=2)
