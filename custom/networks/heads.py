# SPDX-License-Identifier: Apache-2.0
"""The three heads of GVSL: affine, deformable (together the Z-matching head) and restoration."""

from __future__ import annotations

import torch
from torch import nn

from ..layers import Conv3d
from .unet import ConvGroup, GroupNorm

INITIAL_STD = 2e-5  # of the last layers' weights: maps start within 0.05 voxel of the identity, with gradient
AFFINE_NUMBERS = {"rotation": 3, "scale": 3, "translation": 3, "shear": 6}


class AffineHead(nn.Module):
    """The paper's affine head: bottleneck features of both volumes -> 15 numbers, from which an affine map is made.

    Conv group, global average pooling, four linear layers (paper, section 3.2.1). The conventions
    (`custom.layers.PhysicalConventions`) limit the ranges and make the matrix.

    Args:
        in_channels: channels of the bottleneck of one volume.
        channels: channels of the conv group; 256 in the paper.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv_group = ConvGroup(2 * in_channels, channels)
        for name, numbers in AFFINE_NUMBERS.items():
            layer = nn.Linear(channels, numbers)
            nn.init.normal_(layer.weight, std=INITIAL_STD)
            nn.init.zeros_(layer.bias)
            self.add_module(name, layer)

    def forward(self, moving: torch.Tensor, fixed: torch.Tensor) -> dict[str, torch.Tensor]:
        """Two (N, in_channels, *spatial) -> "rotation", "scale" and "translation", (N, 3) each, and "shear", (N, 6)."""
        pooled = self.conv_group(torch.cat((moving, fixed), dim=1)).mean(dim=(2, 3, 4))
        return {name: self.get_submodule(name)(pooled) for name in AFFINE_NUMBERS}


class DeformableHead(nn.Module):
    """Local features of both volumes -> local displacement in voxels (paper, section 3.2.2).

    Args:
        in_channels: channels of the local features of one volume; 32 in the paper.
        channels: channels of the conv group; 16 in the paper.
    """

    def __init__(self, in_channels: int, channels: int = 16) -> None:
        super().__init__()
        self.conv_group = ConvGroup(2 * in_channels, channels)
        self.displacement = Conv3d(channels, 3)
        nn.init.normal_(self.displacement.weight, std=INITIAL_STD)
        nn.init.zeros_(self.displacement.bias)

    def forward(self, moving: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        """Two (N, in_channels, *spatial), the moving features under the affine map -> (N, 3, *spatial), voxels."""
        return self.displacement(self.conv_group(torch.cat((moving, fixed), dim=1)))


class RestorationHead(nn.Sequential):
    """Local features (N, in_channels, *spatial) -> restored volume (N, out_channels, *spatial) (appendix, figure 12).

    The last convolution is 1x1x1 as in the authors' code; the figure says 3x3x3.

    Args:
        in_channels: channels of the local features.
        channels: channels of the hidden layer.
        out_channels: channels of the volume.
    """

    def __init__(self, in_channels: int, channels: int = 16, out_channels: int = 1) -> None:
        super().__init__(
            Conv3d(in_channels, channels),
            GroupNorm(max(channels // 4, 1), channels),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv3d(channels, out_channels, 1),
        )
