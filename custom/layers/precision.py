# SPDX-License-Identifier: Apache-2.0
"""Geometry and losses are computed in float32 under autocast, and in float64 where the input is."""

from __future__ import annotations

from collections.abc import Callable

import torch


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in float32 if it has fewer bits, else as it is."""
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
