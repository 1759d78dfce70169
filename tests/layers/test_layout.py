# SPDX-License-Identifier: Apache-2.0
"""Gradients keep their values and take the layout of the features."""

from __future__ import annotations

import pytest
import torch

from custom.layers import with_gradient_in_own_layout


@pytest.mark.parametrize("layout", [torch.channels_last_3d, torch.contiguous_format])
def test_gradient_has_the_layout_of_the_features(layout: torch.memory_format) -> None:
    leaf = torch.rand(2, 3, 4, 5, 6, requires_grad=True)
    features = (2 * leaf).contiguous(memory_format=layout)
    arrived = []
    features.register_hook(lambda gradient: arrived.append(gradient.clone()))
    kept = with_gradient_in_own_layout(features)
    assert kept is features
    weight = torch.rand(2, 3, 4, 5, 6)
    other = torch.channels_last_3d if layout == torch.contiguous_format else torch.contiguous_format
    (features * weight.contiguous(memory_format=other)).contiguous(memory_format=other).sum().backward()
    assert torch.equal(leaf.grad, 2 * weight) and torch.equal(arrived[0], weight)


def test_layout_that_goes_back() -> None:
    """The layer below sees the layout of its own output, whatever the layer above gave."""
    seen = []

    class Below(torch.autograd.Function):
        @staticmethod
        def forward(context, volume):
            return volume.contiguous(memory_format=torch.channels_last_3d)

        @staticmethod
        def backward(context, gradient):
            seen.append(gradient.is_contiguous(memory_format=torch.channels_last_3d))
            return gradient

    class Above(torch.autograd.Function):
        @staticmethod
        def forward(context, volume):
            return volume.sum()

        @staticmethod
        def backward(context, gradient):
            return gradient * torch.ones(2, 3, 4, 5, 6)  # channels first, as grid_sample's

    for keep in (lambda features: features, with_gradient_in_own_layout):
        Above.apply(keep(Below.apply(torch.rand(2, 3, 4, 5, 6, requires_grad=True)))).backward()
    assert seen == [False, True]


def test_without_gradient_nothing_happens() -> None:
    features = torch.rand(1, 2, 3, 3, 3)
    assert with_gradient_in_own_layout(features) is features
