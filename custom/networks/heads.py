# SPDX-License-Identifier: Apache-2.0
"""The three heads of GVSL: affine, deformable (together the Z-matching head) and restoration."""

from __future__ import annotations

import torch
from torch import nn

from .unet import ConvGroup

INITIAL_STD = 2e-5  # last layers start this close to zero: within 0.05 voxel of the identity, yet in reach of gradient
AFFINE_NUMBERS = {"rotation": 3, "scale": 3, "translation": 3, "shear": 6}


class AffineHead(nn.Module):
    """Bottleneck features of both volumes -> the twelve-plus-three numbers of an affine map, before any range limit.

    Conv group, global average pooling, four linear layers (paper, section 3.2.1). Two options are ours. The
    antisymmetric head gives the difference h(A, B) - h(B, A), so that swapping the volumes negates every number (to
    first order the inverse map) and what all pairs have in common, which only adds noise, drops out. Its gradient may
    turn the pooled difference but not shrink it: else the wrong maps of the first steps teach the bottleneck to look
    alike for all volumes, which makes every map the identity. Moments keep beside the average of each channel its
    averages weighted by the three coordinates: where a feature lies is what an affine map moves, and the plain average
    forgets it.

    Args:
        in_channels: channels of the bottleneck of one volume.
        channels: width of the conv group; 256 in the paper.
        antisymmetric: take the difference; the linear layers then have no bias, which would cancel.
        moments: pool the first moments too.
        output_scale: factor on the numbers and so on the optimiser's steps in them.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        antisymmetric: bool = False,
        moments: bool = False,
        output_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.antisymmetric = antisymmetric
        self.moments = moments
        self.output_scale = output_scale
        self.conv_group = ConvGroup(2 * in_channels, channels)
        for name, numbers in AFFINE_NUMBERS.items():
            layer = nn.Linear(4 * channels if moments else channels, numbers, bias=not antisymmetric)
            nn.init.normal_(layer.weight, std=INITIAL_STD)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            self.add_module(name, layer)

    def forward(self, moving: torch.Tensor, fixed: torch.Tensor) -> dict[str, torch.Tensor]:
        """Two (N, in_channels, *spatial) -> "rotation", "scale", "translation" (N, 3), "shear" (N, 6), unlimited."""
        pairs = torch.cat((moving, fixed), dim=1)
        if self.antisymmetric:
            pairs = torch.cat((pairs, torch.cat((fixed, moving), dim=1)))
        features = self.conv_group(pairs)
        pooled = first_moments(features) if self.moments else features.mean(dim=(2, 3, 4))
        if self.antisymmetric:
            direct, swapped = pooled.chunk(2)
            pooled = without_radial_gradient(direct - swapped)
        return {name: self.output_scale * self.get_submodule(name)(pooled) for name in AFFINE_NUMBERS}


def without_radial_gradient(vector: torch.Tensor) -> torch.Tensor:
    """The vectors (N, C) as they are, whose length gets no gradient: a loss can turn them but not shrink them."""
    length = vector.norm(dim=1, keepdim=True)
    return vector / length.clamp_min(1e-12) * length.detach()


def first_moments(features: torch.Tensor) -> torch.Tensor:
    """Averages of a volume's channels, plain and weighted by each coordinate in [-1, 1].

    Args:
        features: (N, C, *spatial), three axes.

    Returns:
        (N, 4 C): the averages, then those weighted by the first, second and third coordinate.
    """
    axes = [(2 * torch.arange(side).to(features) + 1) / side - 1 for side in features.shape[2:]]
    coordinates = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    weights = torch.cat((torch.ones_like(coordinates[:1]), coordinates))
    return torch.einsum("ncxyz,wxyz->nwc", features, weights).flatten(1) / weights[0].numel()


class DeformableHead(nn.Module):
    """Local features of both volumes -> local displacement in voxels (paper, section 3.2.2).

    Args:
        in_channels: channels of the local features of one volume; 32 in the paper.
        channels: width of the conv group; 16 in the paper.
    """

    def __init__(self, in_channels: int, channels: int = 16) -> None:
        super().__init__()
        self.conv_group = ConvGroup(2 * in_channels, channels)
        self.displacement = nn.Conv3d(channels, 3, 3, padding=1)
        nn.init.normal_(self.displacement.weight, std=INITIAL_STD)
        nn.init.zeros_(self.displacement.bias)

    def forward(self, moving: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        """Two (N, in_channels, *spatial), the moving one already aligned -> (N, 3, *spatial), voxels."""
        return self.displacement(self.conv_group(torch.cat((moving, fixed), dim=1)))


class RestorationHead(nn.Sequential):
    """Local features (N, in_channels, *spatial) -> restored volume (N, 1, *spatial) (appendix, figure 12).

    The last convolution is 1x1x1 as in the authors' code; the figure says 3x3x3.
    """

    def __init__(self, in_channels: int, channels: int = 16) -> None:
        super().__init__(
            nn.Conv3d(in_channels, channels, 3, padding=1),
            nn.GroupNorm(max(channels // 4, 1), channels),
            nn.LeakyReLU(0.2),
            nn.Conv3d(channels, 1, 1),
        )
