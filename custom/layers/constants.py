# SPDX-License-Identifier: Apache-2.0
"""Small tensors from the host on a device. A usual copy makes the host wait for a GPU, these do not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch


def constant(values: Sequence[Any], like: torch.Tensor) -> torch.Tensor:
    """Numbers as a tensor with the type and device of another one. It is shared by all callers: do not change it.

    Args:
        values: numbers, or sequences of numbers of one length.
        like: gives type and device.
    """
    rows = tuple(tuple(row) if isinstance(row, Sequence) else row for row in values)
    return _constant(rows, like.dtype, like.device)


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the host on a device. For a GPU it is copied from pinned memory, which the host need not wait for."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@cache
def _constant(values: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    with torch.inference_mode(False):  # tensors of inference mode cannot be used in training
        return torch.tensor(values, dtype=dtype).to(device)
