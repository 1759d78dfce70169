# SPDX-License-Identifier: Apache-2.0
"""Other networks as backbone: which features, padding, errors; heads and downstream networks that take them."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import SegResNet

from custom.networks import AdaptedBackbone, ClassificationNetwork, SegmentationNetwork

CHANNELS = (8, 16, 32)
DECODER = ("up_layers", "up_samples", "conv_final")


@pytest.fixture
def backbone() -> AdaptedBackbone:
    torch.manual_seed(0)
    network = SegResNet(init_filters=8, in_channels=1, out_channels=8, blocks_down=(1, 1, 1), blocks_up=(1, 1))
    return AdaptedBackbone(network, "down_layers.2", DECODER, CHANNELS).eval()


def test_local_features_are_the_output_and_the_bottleneck_that_of_the_layer(backbone: AdaptedBackbone) -> None:
    image = torch.rand(2, 1, 8, 12, 16)
    bottleneck, local = backbone.forward_features(image)
    torch.testing.assert_close(local, backbone.network(image))
    deepest, skips = backbone.network.encode(image)
    torch.testing.assert_close(bottleneck, skips[-1])
    assert bottleneck.shape == (2, 32, 2, 3, 4) and local.shape == (2, 8, 8, 12, 16)
    torch.testing.assert_close(backbone(image), local)
    torch.testing.assert_close(backbone.forward_bottleneck(image), bottleneck)
    assert not backbone.network.get_submodule("down_layers.2")._forward_hooks


def test_padding_is_cropped_off(backbone: AdaptedBackbone) -> None:
    image = torch.rand(1, 1, 7, 10, 12)
    padded = torch.zeros(1, 1, 8, 12, 12)
    padded[:, :, 0:7, 1:11] = image  # one voxel is missing behind, two on both sides
    bottleneck, local = backbone.forward_features(image)
    torch.testing.assert_close(local, backbone.network(padded)[:, :, 0:7, 1:11])
    assert bottleneck.shape == (1, 32, 2, 3, 3)


def test_wrong_words_are_named(backbone: AdaptedBackbone) -> None:
    with pytest.raises(AttributeError, match="no_such_layer"):
        AdaptedBackbone(backbone.network, "no_such_layer", DECODER, CHANNELS)
    image = torch.rand(1, 1, 8, 8, 8)
    with pytest.raises(ValueError, match=r"SegResNet gives local features of \(8, 8, 8, 8\), expected \(4, 8, 8, 8\)"):
        AdaptedBackbone(backbone.network, "down_layers.2", DECODER, (4, 16, 32))(image)
    with pytest.raises(ValueError, match=r"bottleneck features of \(16, 4, 4, 4\), expected \(32, 2, 2, 2\)"):
        AdaptedBackbone(backbone.network, "down_layers.1", DECODER, CHANNELS)(image)


def test_downstream_networks_take_it(backbone: AdaptedBackbone) -> None:
    image = torch.rand(2, 1, 8, 8, 8)
    assert SegmentationNetwork(backbone, 3)(image).shape == (2, 3, 8, 8, 8)
    network = ClassificationNetwork(backbone, 2)
    network(image).sum().backward()
    trained = {name for name, tensor in network.named_parameters() if tensor.requires_grad}
    assert trained == {name for name, tensor in network.named_parameters() if tensor.grad is not None}
    assert not any(name.startswith("backbone.network.up") for name in trained)
