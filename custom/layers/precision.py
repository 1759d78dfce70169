# SPDX-License-Identifier: Apache-2.0
"""Geometry and losses are computed in float32 under autocast, and in float64 where the input is."""

from __future__ import annotations

import torch


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in float32 if it has fewer bits, else as it is."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
