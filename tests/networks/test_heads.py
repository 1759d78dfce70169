# SPDX-License-Identifier: Apache-2.0
"""The three heads: shapes, what they start with, where the gradient goes, double precision."""

from __future__ import annotations

import pytest
import torch

from custom.losses import GVSLLoss
from custom.networks import AffineHead, DeformableHead, RestorationHead, UNet3D, ZMatchingHead
from custom.networks.heads import first_moments, without_radial_gradient
from custom.pretext import GVSLPretext

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
        (AffineHead(8, 8, antisymmetric=True, moments=True), [(2, 8, 1, 2, 3), (2, 8, 1, 2, 3)]),
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


@pytest.mark.parametrize("moments", [False, True])
@pytest.mark.parametrize(
    ("conventions", "fusion"), [("physical", "fixed_grid"), ("physical", "equation_12"), ("authors", "fixed_grid")]
)
def test_gradcheck_through_heads_fusion_warp_and_loss(conventions, fusion, moments):
    """Every parameter of a tiny network in float64, the loss as the function."""
    torch.manual_seed(0)
    head = ZMatchingHead(AffineHead(2, 2, moments=moments), DeformableHead(2, 2), (1.0, 1.5, 0.8), conventions, fusion)
    network = GVSLPretext(UNet3D(1, (2, 2)), head, RestorationHead(2, 2)).double()
    with torch.no_grad():  # away from the kinks of the interpolation at whole voxels
        for layer in (
            head.affine_head.rotation,
            head.affine_head.scale,
            head.affine_head.translation,
            head.affine_head.shear,
        ):
            layer.bias.normal_(std=0.3)
        head.deformable_head.displacement.bias.copy_(torch.tensor([0.31, -0.27, 0.43]))
    generator = torch.Generator().manual_seed(0)
    names = ("moving", "moving_transformed", "fixed")
    batch = {name: torch.rand(2, 1, 4, 4, 4, dtype=torch.float64, generator=generator) for name in names}
    loss_function = GVSLLoss(window=3, conventions=conventions, affine_registration_weight=0.5)
    parameters = tuple(network.parameters())

    def loss(*_) -> torch.Tensor:
        return loss_function(network(batch), batch)["loss"]

    assert torch.autograd.gradcheck(loss, parameters, eps=1e-7, atol=1e-5, rtol=1e-3, fast_mode=True)


def test_the_pooled_difference_can_be_turned_but_not_shrunk() -> None:
    """Values unchanged; the gradient is the part across the vector, none at zero."""
    vector = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    same = without_radial_gradient(vector)
    torch.testing.assert_close(same, vector)
    (same * torch.tensor([[1.0, 0.0], [1.0, 0.0]])).sum().backward()
    across = torch.tensor([1.0, 0.0]) - 0.6 * torch.tensor([0.6, 0.8])
    torch.testing.assert_close(vector.grad, torch.stack((across, torch.zeros(2))))


def test_moments_are_averages_weighted_by_the_coordinates() -> None:
    """A voxel of height 1 at a known place; the coordinates are those of voxel centres in [-1, 1]."""
    volume = torch.zeros(1, 2, 2, 4, 5)
    volume[0, 1, 1, 0, 3] = 1
    expected = torch.tensor([[1, 0.5, -0.75, 0.4]]) / 40
    found = first_moments(volume).view(4, 2)
    torch.testing.assert_close(found[:, 1][None], expected)
    assert not found[:, 0].any()


def test_moments_tell_where_a_feature_lies_and_plain_averages_do_not() -> None:
    """Inside of the volume, away from its borders, moving the content moves the first moment by as much."""
    volume = torch.zeros(1, 1, 16, 16, 16)
    volume[0, 0, 5:8, 6:9, 7:9] = torch.rand(3, 3, 2, generator=torch.Generator().manual_seed(0))
    before, after = first_moments(volume)[0], first_moments(volume.roll((3, -2), (2, 4)))[0]
    torch.testing.assert_close(after[0], before[0])
    torch.testing.assert_close((after - before)[1:] / before[0], torch.tensor([3, 0, -2]) / 8)


@pytest.mark.parametrize("moments", [False, True])
def test_antisymmetric_affine_head_negates_when_the_volumes_are_swapped(moments: bool) -> None:
    torch.manual_seed(0)
    head = AffineHead(8, 16, antisymmetric=True, moments=moments)
    moving, fixed = torch.rand(2, 2, 8, 3, 3, 3).unbind()
    direct, swapped, same = head(moving, fixed), head(fixed, moving), head(fixed, fixed)
    for name, numbers in direct.items():
        assert numbers.abs().max() > 0
        assert torch.allclose(numbers, -swapped[name], atol=1e-9)
        assert not same[name].any()
    plain = AffineHead(8, 16)(fixed, fixed)
    assert all(numbers.any() for numbers in plain.values())
    sum(numbers.square().sum() for numbers in direct.values()).backward()
    assert all(parameter.grad.any() for parameter in head.parameters())
