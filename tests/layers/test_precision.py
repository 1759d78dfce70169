# SPDX-License-Identifier: Apache-2.0
"""Nothing narrower than float32, and float64 stays."""

from __future__ import annotations

import pytest
import torch

from custom.layers import at_least_float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.uint8, torch.int16, torch.bool])
def test_widened_to_float32(dtype):
    widened = at_least_float32(torch.tensor([0, 1, 1], dtype=dtype))
    assert widened.dtype == torch.float32 and widened.tolist() == [0, 1, 1]


def test_float64_stays_and_nothing_is_copied():
    for dtype in (torch.float32, torch.float64):
        tensor = torch.ones(2, dtype=dtype)
        assert at_least_float32(tensor) is tensor
