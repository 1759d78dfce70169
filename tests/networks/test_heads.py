# SPDX-License-Identifier: Apache-2.0
"""The three heads: shapes, what they start with, where the gradient goes, double precision."""

from __future__ import annotations

import pytest
import torch

from custom.layers import AuthorsConventions, PhysicalConventions
from custom.losses import AuthorsNCCLoss, LocalNCCLoss
from custom.networks import (
    AffineHead,
    DeformableHead,
    KeypointAffineHead,
    RestorationHead,
    UNet3D,
    ZMatchingHead,
)
from custom.pretext import GVSLLoss, GVSLPretext

SPACING = (1.0, 1.5, 0.8)
NUMBERS = {"rotation": 3, "scale": 3, "translation": 3, "shear": 6}


def features(*shape: int, dtype=torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("spatial", [(1, 1, 1), (2, 3, 4)])
def test_affine_numbers(spatial):
    torch.manual_seed(0)
    numbers = AffineHead(16, 24)(features(2, 16, *spatial), features(2, 16, *spatial, seed=1))
    assert {name: tuple(value.shape) for name, value in numbers.items()} == {n: (2, s) for n, s in NUMBERS.items()}
    # near zero, so near the identity, but not zero: every weight is in reach of the gradient
    assert all(0 < value.abs().max() < 1e-2 for value in numbers.values())


def test_affine_numbers_depend_on_which_volume_moves():
    torch.manual_seed(0)
    head, one, other = AffineHead(16, 24), features(1, 16, 2, 2, 2), features(1, 16, 2, 2, 2, seed=1)
    there, back = head(one, other), head(other, one)
    assert all(not torch.allclose(there[name], back[name], rtol=1e-3) for name in NUMBERS)


def test_local_displacement():
    torch.manual_seed(0)
    displacement = DeformableHead(8)(features(2, 8, 5, 6, 7), features(2, 8, 5, 6, 7, seed=1))
    assert displacement.shape == (2, 3, 5, 6, 7) and 0 < displacement.abs().max() < 0.05


def test_restored_volume():
    head = RestorationHead(32)
    assert head(features(2, 32, 5, 6, 7)).shape == (2, 1, 5, 6, 7)
    # 32*16*27 + 16, group norm 2*16, 16 + 1: the authors' res_conv
    assert sum(parameter.numel() for parameter in head.parameters()) == 13_840 + 32 + 17
    assert head[1].num_groups == 4
    assert RestorationHead(32, out_channels=4)(features(2, 32, 5, 6, 7)).shape == (2, 4, 5, 6, 7)


def test_the_heads_at_full_width_have_the_size_of_the_authors():
    def size(module: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    # peers.md: 32,440,739 in all, of which the U-Net 23,538,144
    heads = size(AffineHead(512, 256)) + size(DeformableHead(32)) + size(RestorationHead(32))
    assert heads == 32_440_739 - 23_538_144


@pytest.mark.parametrize(
    ("head", "shapes"),
    [
        (AffineHead(8, 8), [(2, 8, 1, 2, 1), (2, 8, 1, 2, 1)]),
        (KeypointAffineHead(8, 4, keypoints=5), [(2, 8, 1, 2, 3), (2, 8, 1, 2, 3)]),
        (DeformableHead(8, 8), [(2, 8, 3, 2, 3), (2, 8, 3, 2, 3)]),
        (RestorationHead(8, 8), [(2, 8, 3, 2, 3)]),
    ],
)
def test_a_batch_is_its_items(head, shapes):
    tensors = [features(*shape, seed=seed) for seed, shape in enumerate(shapes)]

    def flat(result) -> torch.Tensor:
        return (
            torch.cat([value.flatten(1) for value in result.values()], 1)
            if isinstance(result, dict)
            else result.flatten(1)
        )

    single = torch.cat([flat(head(*(tensor[i : i + 1] for tensor in tensors))) for i in range(2)])
    torch.testing.assert_close(flat(head(*tensors)), single, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("conventions", "correlation", "keypoints"),
    [
        (PhysicalConventions(SPACING), LocalNCCLoss(window=3), False),
        (PhysicalConventions(SPACING, "equation_12"), LocalNCCLoss(window=3), False),
        (AuthorsConventions(), AuthorsNCCLoss(window=3), False),
        (PhysicalConventions(SPACING), LocalNCCLoss(window=3), True),
    ],
)
def test_gradcheck_through_heads_fusion_warp_and_loss(conventions, correlation, keypoints):
    """Every parameter of a tiny network in float64, the loss as the function."""
    torch.manual_seed(0)
    affine_head = KeypointAffineHead(2, 2, SPACING, keypoints=5) if keypoints else AffineHead(2, 2)
    head = ZMatchingHead(affine_head, DeformableHead(2, 2), conventions)
    network = GVSLPretext(UNet3D(1, (2, 2)), head, RestorationHead(2, 2)).double()
    with torch.no_grad():  # away from the kinks of the interpolation at whole voxels
        for layer in affine_head.children():
            if isinstance(layer, torch.nn.Linear):
                layer.bias.normal_(std=0.3)
        head.deformable_head.displacement.bias.copy_(torch.tensor([0.31, -0.27, 0.43]))
    generator = torch.Generator().manual_seed(0)
    names = ("moving", "moving_transformed", "fixed")
    batch = {name: torch.rand(2, 1, 4, 4, 4, dtype=torch.float64, generator=generator) for name in names}
    loss_function = GVSLLoss(correlation=correlation, affine_registration_weight=0.5)
    parameters = tuple(network.parameters())

    def loss(*_) -> torch.Tensor:
        return loss_function(network(batch), batch)["loss"]

    assert torch.autograd.gradcheck(loss, parameters, eps=1e-7, atol=1e-5, rtol=1e-3, fast_mode=True)
