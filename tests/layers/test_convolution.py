# SPDX-License-Identifier: Apache-2.0
"""The convolution of a single volume is that of torch, by oneDNN."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from custom.layers import Conv3d
from custom.layers.convolution import convolve_halves, is_slow


@pytest.mark.parametrize("depth", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("biased", [True, False])
def test_halves_give_the_convolution_of_the_whole_and_its_gradients(depth, biased):
    torch.manual_seed(0)
    features = torch.randn(1, 3, depth, 4, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 3, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, dtype=torch.float64, requires_grad=True) if biased else None
    expected, result = F.conv3d(features, weight, bias, padding=1), convolve_halves(features, weight, bias)
    assert torch.allclose(result, expected, atol=1e-12)
    inputs = [tensor for tensor in (features, weight, bias) if tensor is not None]
    direction = torch.randn_like(expected)
    gradients = zip(
        torch.autograd.grad(result, inputs, direction), torch.autograd.grad(expected, inputs, direction), strict=True
    )
    assert all(torch.allclose(one, other, atol=1e-12) for one, other in gradients)


@pytest.mark.parametrize(
    ("shape", "dtype", "slow"),
    [
        ((1, 16, 24, 24, 24), torch.float32, True),
        ((1, 20, 32, 32, 99), torch.float32, True),
        ((1, 16, 48, 48, 48), torch.float32, False),
        ((2, 16, 24, 24, 24), torch.float32, False),
        ((1, 16, 24, 24, 24), torch.bfloat16, False),
        ((1, 16, 24, 24, 24), torch.float64, False),
    ],
)
def test_only_small_single_volumes_in_float32_are_computed_in_halves(shape, dtype, slow):
    assert is_slow(torch.empty(shape, dtype=dtype)) == slow


@pytest.mark.parametrize("side", [9, 40])
def test_the_layer_gives_what_torch_gives(side):
    torch.manual_seed(0)
    layer = Conv3d(16, 4)
    theirs = nn.Conv3d(16, 4, 3, padding=1)
    theirs.load_state_dict(layer.state_dict())
    volume = torch.randn(1, 16, side, side, side)
    assert torch.allclose(layer(volume), theirs(volume), atol=1e-5)
    assert torch.allclose(torch.jit.script(layer)(volume), theirs(volume), atol=1e-5)
    traced = torch.jit.trace(layer, volume)
    larger = torch.randn(2, 16, side + 1, side, side)
    assert torch.allclose(traced(larger), theirs(larger), atol=1e-5)


def test_torch_computes_single_small_volumes_without_onednn_and_halves_with_it():
    layer, volume = Conv3d(16, 4), torch.randn(1, 16, 8, 8, 8)
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")

    def operators(function) -> set[str]:
        with torch.profiler.profile() as profile:
            function()
        return {event.key for event in profile.key_averages()}

    assert "aten::slow_conv3d_forward" in operators(lambda: F.conv3d(volume, layer.weight, padding=1))
    halved = operators(lambda: layer(volume).sum().backward())
    assert "aten::mkldnn_convolution" in halved and "aten::slow_conv3d_forward" not in halved
