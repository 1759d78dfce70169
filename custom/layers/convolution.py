# SPDX-License-Identifier: Apache-2.0
"""A 3x3x3 convolution that is fast for a single volume on CPUs too."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Conv3d(nn.Conv3d):
    """`torch.nn.Conv3d` with a 3x3x3 kernel and padding 1, without torch's slow path for single volumes.

    On CPUs torch computes a float32 convolution of one volume with oneDNN where C * depth * height is above 20480, and
    otherwise by a slower method of its own (`use_mkldnn` in torch's Convolution.cpp). A batch of two always has oneDNN,
    so such a volume is computed as a batch of its two halves: docs/gpu.md has what this saves.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, *spatial) -> (N, out_channels, *spatial)."""
        if not torch.jit.is_scripting():
            if torch.jit.is_tracing() or torch.compiler.is_exporting():  # the sides are free there
                return F.conv3d(features, self.weight, self.bias, padding=1)
        if is_slow(features):
            return convolve_halves(features, self.weight, self.bias)
        return F.conv3d(features, self.weight, self.bias, padding=1)


def is_slow(features: torch.Tensor) -> bool:
    """Whether torch would not compute a convolution of (N, C, *spatial) with oneDNN."""
    single = features.device.type == "cpu" and features.dtype == torch.float32 and features.shape[0] == 1
    return single and features[0, :, :, :, 0].numel() <= 20480


def convolve_halves(features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """The 3x3x3 convolution with padding 1 of one volume, as a batch of its two halves along the first spatial axis.

    Each half has one more plane of the volume at the cut, so that the result is that of the whole volume. Halves of an
    odd number of planes share one.

    Args:
        features: (1, C, *spatial).
        weight: (D, C, 3, 3, 3).
        bias: (D), or None.

    Returns:
        (1, D, *spatial).
    """
    depth = features.shape[2]
    half = (depth + 1) // 2
    padded = F.pad(features, [0, 0, 0, 0, 1, 1])
    halves = torch.cat([padded[:, :, : half + 2], padded[:, :, depth - half :]])
    convolved = F.conv3d(halves, weight, bias, padding=[0, 1, 1])
    return torch.cat([convolved[:1], convolved[1:, :, 2 * half - depth :]], dim=2)
