# SPDX-License-Identifier: Apache-2.0
"""Downstream networks: sizes, a frozen backbone that stays bit-identical, TorchScript."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from custom.networks import ClassificationNetwork, SegmentationNetwork, UNet3D

NETWORKS = {"segmentation": SegmentationNetwork, "classification": ClassificationNetwork}


def make(kind: str, classes: int = 3, **arguments) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[kind](UNet3D(1, (8, 16, 32)), classes, **arguments)


def descend(network: nn.Module, steps: int = 3) -> None:
    """A few steps of Adam on noise, all parameters given to the optimiser as a bundle does."""
    optimizer = torch.optim.Adam(network.parameters(), 0.1)
    network.train()
    for step in range(steps):
        image = torch.rand(2, 1, 8, 12, 8, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad(set_to_none=True)
        network(image).square().mean().backward()
        optimizer.step()


@torch.no_grad()
def test_logits_are_a_linear_map_of_the_features():
    image = torch.rand(2, 1, 9, 8, 11)
    segmentation = make("segmentation")
    expected = torch.einsum("ncxyz,kc->nkxyz", segmentation.backbone(image), segmentation.head.weight[..., 0, 0, 0])
    expected += segmentation.head.bias.reshape(1, -1, 1, 1, 1)
    torch.testing.assert_close(segmentation(image), expected)
    classification = make("classification")
    pooled = classification.backbone.forward_features(image)[0].flatten(2).mean(dim=2)
    torch.testing.assert_close(classification(image), F.linear(pooled, *classification.head.parameters()))


@torch.no_grad()
def test_the_authors_kernel_keeps_the_size():
    network = make("segmentation", kernel_size=3)
    assert network.head.weight.shape == (3, 8, 3, 3, 3) and network(torch.rand(1, 1, 7, 9, 5)).shape == (1, 3, 7, 9, 5)


@torch.no_grad()
def test_the_bottleneck_alone_is_that_of_the_features():
    backbone, image = UNet3D(1, (8, 16, 32)), torch.rand(1, 1, 7, 9, 11)
    assert torch.equal(backbone.forward_bottleneck(image), backbone.forward_features(image)[0])


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_frozen_backbone_stays_bit_identical(kind):
    network = make(kind, frozen=True)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    descend(network)
    assert network.training and network.head.training and not network.backbone.training
    assert not any(module.training for module in network.backbone.modules())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]) is name.startswith("backbone."), name


@pytest.mark.parametrize("kind", NETWORKS)
def test_there_is_no_graph_below_a_frozen_backbone(kind):
    features = []
    network = make(kind, frozen=True)
    network.head.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0]))
    assert network(torch.rand(1, 1, 8, 8, 8)).requires_grad and not features[0].requires_grad


@pytest.mark.parametrize("kind", NETWORKS)
def test_fine_tuning_changes_every_parameter_that_it_uses(kind):
    network = make(kind)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    descend(network)
    assert network.backbone.training
    for name, parameter in network.named_parameters():
        unused = kind == "classification" and name.startswith("backbone.decoder.")
        assert parameter.requires_grad is not unused and torch.equal(parameter, before[name]) is unused, name


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("kind", NETWORKS)
@torch.no_grad()
def test_torchscript_gives_the_same_logits(kind, frozen, tmp_path):
    network = make(kind, frozen=frozen).eval()
    torch.jit.script(network).save(str(tmp_path / "network.ts"))
    scripted = torch.jit.load(str(tmp_path / "network.ts"))
    for shape in ((8, 8, 8), (7, 9, 13)):
        image = torch.rand(1, 1, *shape)
        torch.testing.assert_close(scripted(image), network(image))


@pytest.mark.parametrize(
    ("kind", "arguments", "found"),
    [
        ("segmentation", {"classes": 1}, "classes is 1"),
        ("segmentation", {"kernel_size": 2}, "kernel_size 2"),
        ("classification", {"classes": 0}, "classes is 0"),
    ],
)
def test_errors(kind, arguments, found):
    with pytest.raises(ValueError, match=found):
        make(kind, **arguments)
