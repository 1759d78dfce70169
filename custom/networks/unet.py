# SPDX-License-Identifier: Apache-2.0
"""The backbone: the 3D U-Net of the GVSL paper, with any number of levels and channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..layers import Conv3d, with_gradient_in_own_layout


class GroupNorm(nn.GroupNorm):
    """Group norm that gives float16 for float16 on GPUs, where autocast would compute and store float32.

    The statistics are float32 in any case. An export to ONNX has `group_norm_by_axes`.
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        weight, bias = self.weight, self.bias
        if not torch.jit.is_scripting():
            if torch.onnx.is_in_onnx_export():
                return group_norm_by_axes(features, self.num_groups, weight, bias, self.eps)
        if features.device.type == "cuda":
            weight, bias = weight.to(features.dtype), bias.to(features.dtype)
        with torch.autocast("cuda", enabled=False):
            normalised = F.group_norm(features, self.num_groups, weight, bias, self.eps)
        return normalised


def group_norm_by_axes(
    features: torch.Tensor, groups: int, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> torch.Tensor:
    """Group norm whose means are taken axis by axis.

    ONNX has group norm as InstanceNormalization. onnxruntime sums a whole group for it in float32, which made logits
    wrong by more than 1e-4; sums of one axis are short.

    Args:
        features: (N, C, *spatial).
        groups: number of groups of channels.
        weight: factor of each channel (C).
        bias: summand of each channel (C).
        eps: added to the variance.

    Returns:
        (N, C, *spatial).
    """
    grouped = features.unflatten(1, (groups, features.shape[1] // groups))
    centred = grouped - mean_by_axes(grouped)
    normalised = (centred * torch.rsqrt(mean_by_axes(centred * centred) + eps)).flatten(1, 2)
    per_channel = (-1, *[1] * (features.dim() - 2))
    return normalised * weight.view(per_channel) + bias.view(per_channel)


def mean_by_axes(values: torch.Tensor) -> torch.Tensor:
    """Mean over all axes but the first two, the last axis first; their length becomes 1."""
    for axis in range(values.dim() - 1, 1, -1):
        values = values.mean(axis, keepdim=True)
    return values


def group_norm(channels: int) -> GroupNorm:
    """Group norm with eight channels in a group, or a single group for fewer than sixteen channels."""
    return GroupNorm(max(channels // 8, 1), channels)


def pad_to_multiples(image: torch.Tensor, divisor: int) -> torch.Tensor:
    """Pads an image (N, C, *spatial) with zeros to multiples of the divisor, half of them (rounded down) in front."""
    x, y, z = [(-side) % divisor for side in image.shape[2:]]
    return F.pad(image, [z // 2, z - z // 2, y // 2, y - y // 2, x // 2, x - x // 2])


def crop_back(features: torch.Tensor, image: torch.Tensor, divisor: int) -> torch.Tensor:
    """Undoes `pad_to_multiples` of an image for features of the padded image, at its resolution; gives a view."""
    x, y, z = image.shape[2:]
    i, j, k = [(-side) % divisor // 2 for side in image.shape[2:]]
    return features[:, :, i : i + x, j : j + y, k : k + z]


class ConvGroup(nn.Sequential):
    """Two 3x3x3 convolutions of constant resolution, each with group norm and LeakyReLU(0.2); He-normal weights.

    With the attribute `recompute`, the activations between the two convolutions, and the concatenated input of an
    `UpGroup`, are not stored: the backward pass computes them again, without repeating a convolution.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            *(Conv3d(in_channels, out_channels), group_norm(out_channels), nn.LeakyReLU(0.2, True)),
            *(Conv3d(out_channels, out_channels), group_norm(out_channels), nn.LeakyReLU(0.2, True)),
        )
        self.recompute = False
        for convolution in (self[0], self[3]):
            nn.init.kaiming_normal_(convolution.weight, a=0.2, nonlinearity="leaky_relu")

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, *spatial) -> (N, out_channels, *spatial)."""
        return self.after_first(self[0](features))

    def after_first(self, convolved: torch.Tensor) -> torch.Tensor:
        """The group from the output of the first convolution on."""
        if not torch.jit.is_scripting():
            if self.recompute:
                return self[5](self[4](recomputed(self.second, convolved)))
        return self[5](self[4](self.second(convolved)))

    def second(self, convolved: torch.Tensor) -> torch.Tensor:
        """The output of the second convolution."""
        return self[3](self[2](self[1](convolved)))


class UpGroup(ConvGroup):
    """A `ConvGroup` of the features of a level and of those below, which are interpolated to twice the resolution."""

    def forward(self, skip: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
        """(N, C, *spatial) and (N, D, *spatial / 2), C + D = in_channels -> (N, out_channels, *spatial)."""
        if not torch.jit.is_scripting():
            if self.recompute:
                return self.after_first(recomputed(self.first, skip, below))
        return self.after_first(self.first(skip, below))

    def first(self, skip: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
        """The output of the first convolution."""
        above = F.interpolate(below, scale_factor=2.0, mode="trilinear", align_corners=True)
        if not torch.jit.is_scripting():
            above = with_gradient_in_own_layout(above)  # it is a slice of that of the concatenated features
        return self[0](torch.cat([skip, above], dim=1))


def recomputed(function: Callable[..., torch.Tensor], *tensors: torch.Tensor) -> torch.Tensor:
    """function(*tensors), of whose intermediate results none is stored: the backward pass computes them again.

    It stops at the input of the last layer, so that a convolution there is not repeated. Gradients are equal.
    """
    return checkpoint(function, *tensors, use_reentrant=False, preserve_rng_state=False)


class UNet3D(nn.Module):
    """3D U-Net: a `ConvGroup` for each level, max pooling by 2 downwards, trilinear interpolation by 2 upwards.

    Inputs of any size are zero-padded to multiples of 2^(levels - 1), half of the padding (rounded down) in front. The
    local features are cropped to the size of the input, the bottleneck is that of the padded volume.

    Args:
        in_channels: channels of the input volume.
        channels: channels of each level from full resolution to the bottleneck; 32, 64, 128, 256, 512 in the paper.

    Raises:
        ValueError: fewer than two levels, or a number of channels that group norm cannot divide.
    """

    def __init__(self, in_channels: int = 1, channels: Sequence[int] = (32, 64, 128, 256, 512)) -> None:
        super().__init__()
        if len(channels) < 2:
            raise ValueError(f"channels must name at least two levels, got {list(channels)}")
        undivided = [width for width in channels if width % max(width // 8, 1)]
        if undivided:
            raise ValueError(f"channels must be multiples of 8 (or below 16), got {undivided} in {list(channels)}")
        self.channels = tuple(channels)
        self.divisor = 2 ** (len(channels) - 1)
        self.encoder = nn.ModuleList(
            ConvGroup(*pair) for pair in zip((in_channels, *channels[:-1]), channels, strict=True)
        )
        self.decoder = nn.ModuleList(
            UpGroup(skip + below, skip) for skip, below in zip(channels[-2::-1], channels[:0:-1], strict=True)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Local features (N, channels[0], *spatial) of an image (N, in_channels, *spatial)."""
        return self.forward_features(image)[1]

    def forward_features(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Bottleneck (N, channels[-1], *ceil(spatial / divisor)) and local features (N, channels[0], *spatial)."""
        skips = self._encode(image)
        bottleneck = skips.pop()
        features = bottleneck
        for block in self.decoder:
            features = block(skips.pop(), features)
        return bottleneck, crop_back(features, image, self.divisor)

    def forward_bottleneck(self, image: torch.Tensor) -> torch.Tensor:
        """The bottleneck of `forward_features` alone; the decoder does not run."""
        return self._encode(image)[-1]

    def _encode(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Features of each level of the padded image, from full resolution to the bottleneck."""
        features = pad_to_multiples(image, self.divisor)
        levels: list[torch.Tensor] = []
        for level, block in enumerate(self.encoder):
            if level > 0:
                features = F.max_pool3d(features, 2)
            features = block(features)
            levels.append(features)
        return levels
