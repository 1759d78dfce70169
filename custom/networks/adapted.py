# SPDX-License-Identifier: Apache-2.0
"""Segmentation networks of other libraries as backbone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .unet import crop_back, pad_to_multiples


class AdaptedBackbone(nn.Module):
    """A segmentation network as backbone: its output are the local features, one of its layers gives the bottleneck.

    Inputs are zero-padded to multiples of `divisor`, half of the padding (rounded down) in front, as in `UNet3D`.

    Args:
        network: maps (N, C, *spatial) to (N, channels[0], *spatial), e.g. a MONAI network with that many out_channels.
        bottleneck: name of the submodule whose output is the bottleneck.
        decoder: names of the submodules after the bottleneck, which classification does not train.
        channels: widths of the levels, from the local features to the bottleneck. The resolution of the bottleneck is
            1 / 2^(levels - 1).

    Raises:
        AttributeError: the network has no submodule of the name `bottleneck`.
        ValueError: the features of the network have another width or resolution; the message names both.
    """

    def __init__(self, network: nn.Module, bottleneck: str, decoder: Sequence[str], channels: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.bottleneck = bottleneck
        network.get_submodule(bottleneck)
        self.decoder_names = tuple(decoder)
        self.channels = tuple(channels)
        self.divisor = 2 ** (len(self.channels) - 1)

    @property
    def decoder(self) -> nn.ModuleList:
        """The submodules after the bottleneck."""
        return nn.ModuleList(self.network.get_submodule(name) for name in self.decoder_names)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Local features (N, channels[0], *spatial) of an image (N, C, *spatial)."""
        return self.forward_features(image)[1]

    def forward_bottleneck(self, image: torch.Tensor) -> torch.Tensor:
        """The bottleneck of `forward_features`; the whole network runs."""
        return self.forward_features(image)[0]

    def forward_features(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Bottleneck (N, channels[-1], *ceil(spatial / divisor)) and local features (N, channels[0], *spatial)."""
        padded = pad_to_multiples(image, self.divisor)
        outputs: list[torch.Tensor] = []
        hook = self.network.get_submodule(self.bottleneck).register_forward_hook(lambda *call: outputs.append(call[-1]))
        try:
            local = self.network(padded)
        finally:
            hook.remove()
        self._check("local", local, self.channels[0], padded.shape[2:])
        self._check("bottleneck", outputs[0], self.channels[-1], [side // self.divisor for side in padded.shape[2:]])
        return outputs[0], crop_back(local, image, self.divisor)

    def _check(self, name: str, features: torch.Tensor, channels: int, sides: Sequence[int]) -> None:
        if tuple(features.shape[1:]) != (channels, *sides):
            shape = f"{type(self.network).__name__} gives {name} features of {tuple(features.shape[1:])}"
            raise ValueError(f"{shape}, expected {(channels, *sides)} after channels {list(self.channels)}")
