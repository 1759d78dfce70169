# SPDX-License-Identifier: Apache-2.0
"""The backbone: sizes, padding, widths, TorchScript."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from custom.networks import UNet3D, on_device, unet
from custom.networks.unet import ConvGroup, group_norm, group_norm_by_axes

NARROW = (8, 16, 32)  # divisor 4


def make(channels=NARROW, in_channels: int = 1) -> UNet3D:
    torch.manual_seed(0)
    return UNet3D(in_channels, channels).eval()


def test_the_full_width_has_the_size_of_the_authors_network():
    assert sum(parameter.numel() for parameter in UNet3D().parameters()) == 23_538_144


@pytest.mark.parametrize("axis", [2, 3, 4])
def test_upsampling_aligns_the_corners_and_the_skip_comes_first(axis: int):
    """Without convolutions: maxima 0 and 3 of pairs of voxels become 0, 1, 2, 3, not 0, 0.75, 2.25, 3."""
    network = make((8, 16))
    network.encoder = nn.ModuleList([nn.Identity(), nn.Identity()])
    for layer in range(6):
        network.decoder[0][layer] = nn.Identity()
    line = torch.tensor([0.0, 0.0, 3.0, 3.0]).reshape([4 if side == axis else 1 for side in range(5)])
    image = line.expand(1, 1, 4, 4, 4)
    expected = torch.tensor([0.0, 1.0, 2.0, 3.0]).reshape(line.shape).expand(1, 1, 4, 4, 4)
    torch.testing.assert_close(network.forward_features(image)[1], torch.cat([image, expected], dim=1))


@pytest.mark.parametrize("shape", [(8, 8, 8), (8, 12, 16), (7, 9, 11), (13, 8, 5), (3, 2, 1), (1, 1, 1), (4, 17, 6)])
@torch.no_grad()
def test_any_input_size(shape):
    network = make()
    image = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(0))
    bottleneck, local = network.forward_features(image)
    assert local.shape == (2, 8, *shape)
    assert bottleneck.shape == (2, 32, *(-(-side // 4) for side in shape))
    assert bottleneck.isfinite().all() and local.isfinite().all()
    assert torch.equal(network(image), local)


@pytest.mark.parametrize("shape", [(7, 9, 11), (13, 6, 5), (3, 2, 1)])
@torch.no_grad()
def test_half_of_the_padding_lies_in_front(shape):
    network = make()
    image = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0))
    padded = torch.zeros(1, 1, *(-(-side // 4) * 4 for side in shape))
    front = [(p - s) // 2 for p, s in zip(padded.shape[2:], shape, strict=True)]  # rounded down
    inside = (..., *(slice(f, f + s) for f, s in zip(front, shape, strict=True)))
    padded[inside] = image
    expected_bottleneck, expected_local = network.forward_features(padded)
    bottleneck, local = network.forward_features(image)
    assert torch.equal(bottleneck, expected_bottleneck) and torch.equal(local, expected_local[inside])


@pytest.mark.parametrize("channels", [(8, 16), (4, 6, 10), (32, 64), (8, 16, 24, 48, 56)])
@torch.no_grad()
def test_depth_and_widths_are_arguments(channels):
    network = make(channels, in_channels=2)
    side = 2 ** (len(channels) - 1)
    assert network.divisor == side and network.channels == channels
    bottleneck, local = network.forward_features(torch.rand(1, 2, side, 2 * side, side))
    assert bottleneck.shape == (1, channels[-1], 1, 2, 1) and local.shape == (1, channels[0], side, 2 * side, side)


@torch.no_grad()
def test_a_batch_is_its_items():
    network = make()
    images = torch.rand(3, 1, 9, 8, 10, generator=torch.Generator().manual_seed(0))
    whole = network.forward_features(images)
    for part in range(2):
        single = torch.cat([network.forward_features(images[i : i + 1])[part] for i in range(3)])
        torch.testing.assert_close(whole[part], single, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_torchscript_gives_the_same_features(tmp_path):
    network = make()
    torch.jit.script(network).save(str(tmp_path / "backbone.ts"))
    scripted = torch.jit.load(str(tmp_path / "backbone.ts"))
    for shape in ((8, 8, 8), (7, 9, 13), (3, 2, 1)):
        image = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(scripted(image), network(image))


@pytest.mark.parametrize(
    ("channels", "found"),
    [((32,), r"two levels, got \[32\]"), ((), r"two levels, got \[\]"), ((8, 28, 32), r"got \[28\] in \[8, 28, 32\]")],
)
def test_wrong_widths_are_named(channels, found):
    with pytest.raises(ValueError, match=found):
        UNet3D(1, channels)


@pytest.mark.parametrize(("channels", "groups"), [(4, 1), (8, 1), (15, 1), (16, 2), (32, 4), (512, 64)])
def test_groups_hold_eight_channels(channels, groups):
    assert group_norm(channels).num_groups == groups and group_norm(channels).eps == 1e-5


@torch.no_grad()
def test_the_group_norm_of_onnx_is_group_norm():
    torch.manual_seed(0)
    norm = nn.GroupNorm(2, 16).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    features = 100 + torch.randn(2, 16, 3, 4, 5, dtype=torch.float64)
    found = group_norm_by_axes(features, 2, norm.weight, norm.bias, norm.eps)
    torch.testing.assert_close(found, norm(features), atol=1e-12, rtol=1e-12)


def test_convolutions_start_he_normal():
    torch.manual_seed(0)
    for convolution in (layer for layer in ConvGroup(32, 64) if isinstance(layer, nn.Conv3d)):
        fan_in = convolution.in_channels * 27
        expected = (2 / (1 + 0.2**2) / fan_in) ** 0.5  # gain of LeakyReLU(0.2)
        assert convolution.weight.std().item() == pytest.approx(expected, rel=0.03)
        assert convolution.weight.abs().max() > 3 * expected  # normal, not uniform


def test_recomputing_changes_no_number_and_stores_less():
    stored = {}

    def step(recompute: bool) -> list[torch.Tensor]:
        network = on_device(make((8, 16, 32)), "cpu", recompute)
        image = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            features = network(image)
        stored[recompute] = sum(sizes.values())
        features.square().sum().backward()
        return [features, *(parameter.grad for parameter in network.parameters())]

    assert all(torch.equal(a, b) for a, b in zip(step(False), step(True), strict=True))
    assert stored[True] < 0.7 * stored[False], stored


def test_interpolation_gets_a_gradient_in_its_own_layout(monkeypatch: pytest.MonkeyPatch):
    seen, interpolate = [], unet.F.interpolate

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(context, above):
            return above.clone()

        @staticmethod
        def backward(context, gradient):
            seen.append(gradient.is_contiguous(memory_format=torch.channels_last_3d))
            return gradient

    monkeypatch.setattr(unet.F, "interpolate", lambda *args, **kwargs: Watched.apply(interpolate(*args, **kwargs)))
    network = on_device(make((8, 16, 32)), "cpu")
    network(torch.rand(2, 1, 16, 16, 16)).square().sum().backward()
    assert seen == [True, True]
