# SPDX-License-Identifier: Apache-2.0
"""Memory layout of gradients."""

from __future__ import annotations

import torch


def with_gradient_in_own_layout(features: torch.Tensor) -> torch.Tensor:
    """The tensor itself (N, C, *spatial); its gradient is laid out in memory as it is, channels last or first.

    Samplers and slices give gradients with the channels first. A network that ran channels last would go back through
    all of its layers in the slower mixed layout: at the paper's widths and 64^3 that is 1 s of a step of 12 s on CPU.
    """
    if features.requires_grad:
        channels_last = features.is_contiguous(memory_format=torch.channels_last_3d)
        layout = torch.channels_last_3d if channels_last else torch.contiguous_format
        features.register_hook(
            lambda gradient: gradient if gradient is None else gradient.contiguous(memory_format=layout)
        )
    return features
