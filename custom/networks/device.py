# SPDX-License-Identifier: Apache-2.0
"""A network on its device."""

from __future__ import annotations

import torch
from torch import nn

from .unet import ConvGroup


def on_device(network: nn.Module, device: torch.device | str, recompute: bool = False) -> nn.Module:
    """Move a network to a device, in the memory layout that is used there.

    On CPUs that is channels last, in which convolutions are faster. On GPUs it is channels first: there group norm
    returns this layout whatever it gets, so that each convolution after it would convert its input.

    Args:
        network: the network.
        device: such as "cuda:0".
        recompute: store less for the backward pass and compute it again (see `ConvGroup`; no convolution is repeated):
            less memory for a little more time, with equal numbers.

    Returns:
        The same network.
    """
    for module in network.modules():
        if isinstance(module, ConvGroup):
            module.recompute = recompute
    layout = torch.channels_last_3d if torch.device(device).type == "cpu" else torch.contiguous_format
    return network.to(device, memory_format=layout)
