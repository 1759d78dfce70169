# SPDX-License-Identifier: Apache-2.0
"""The precision of geometry and losses: float32 also under autocast, float64 for float64 input."""

from __future__ import annotations

from collections.abc import Callable

import torch


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """Converts a tensor of fewer than 32 bits to float32; returns others as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def in_float32(function: Callable[..., torch.Tensor], *tensors: torch.Tensor, **arguments) -> torch.Tensor:
    """Calls a function on tensors in at least float32, without autocast.

    Args:
        function: takes the tensors, then the arguments by name.
        tensors: one or more, on one device.
        arguments: passed on as they are.
    """
    with torch.autocast(tensors[0].device.type, enabled=False):
        return function(*map(at_least_float32, tensors), **arguments)
