# SPDX-License-Identifier: Apache-2.0
"""The pretext network: which volume goes where, ablations, gradient to every tensor, how it starts, precision."""

from __future__ import annotations

import pytest
import torch

from custom.layers import AuthorsConventions, PhysicalConventions, affine_to_displacement, warp
from custom.losses import AuthorsNCCLoss, LocalNCCLoss
from custom.networks import SimilarityHead, UNet3D, ZMatchingHead
from custom.pretext import GVSLLoss, GVSLPretext
from custom.pretext.places import at_places

MATCH = {"affine_matrix", "local_displacement", "displacement", "warped", "affine_warped"}
FEATURES = {"bottleneck", "local"}


def test_outputs(make_pretext, random_pairs):
    outputs = make_pretext()(random_pairs(2, (8, 11, 13)))
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    assert shapes == {
        "bottleneck": (4, 32, 2, 3, 4),
        "local": (4, 8, 8, 11, 13),
        "affine_matrix": (2, 3, 4),
        "local_displacement": (2, 3, 8, 11, 13),
        "displacement": (2, 3, 8, 11, 13),
        "warped": (2, 1, 8, 11, 13),
        "affine_warped": (2, 1, 8, 11, 13),
        "restored": (2, 1, 8, 11, 13),
    }


def test_who_sees_what(make_pretext, random_pairs):
    network, batch = make_pretext(), random_pairs()
    outputs = network(batch)
    damaged, fixed = (network.backbone.forward_features(batch[name]) for name in ("moving_transformed", "fixed"))
    for part, name in enumerate(("bottleneck", "local")):
        torch.testing.assert_close(outputs[name], torch.cat((damaged[part], fixed[part])))
    match = network.matching_head(damaged, fixed)
    torch.testing.assert_close(outputs["displacement"], match["displacement"])
    # the damaged volume is matched and restored, the clean one is warped
    torch.testing.assert_close(outputs["restored"], network.restoration_head(damaged[1]))
    torch.testing.assert_close(outputs["warped"], warp(batch["moving"], outputs["displacement"]))
    affine = affine_to_displacement(outputs["affine_matrix"], batch["moving"].shape[2:])
    torch.testing.assert_close(outputs["affine_warped"], warp(batch["moving"], affine))


def test_the_backbone_sees_a_transformed_fixed_volume(make_pretext, random_pairs):
    network, batch = make_pretext(), random_pairs()
    batch["fixed_transformed"] = batch["moving"].flip(2)
    seen = network.backbone.forward_features(batch["fixed_transformed"])[1]
    torch.testing.assert_close(network(batch)["local"].chunk(2)[1], seen)


@pytest.mark.parametrize(
    ("without", "names"),
    [
        ({"affine": None}, FEATURES | MATCH | {"restored"}),
        ({"deformable": None}, FEATURES | MATCH | {"restored"}),
        ({"restoration": None}, FEATURES | MATCH),
        ({"matching": False}, FEATURES | {"restored"}),
        ({"affine": None, "deformable": None}, FEATURES | MATCH | {"restored"}),
    ],
)
def test_ablations_leave_out_what_they_name(make_pretext, random_pairs, without, names):
    network, batch = make_pretext(**without), random_pairs()
    outputs = network(batch)
    assert set(outputs) == names
    terms = GVSLLoss()(outputs, batch)
    assert ("restoration" in terms) == ("restored" in names)
    assert ("registration" in terms) == ("smoothness" in terms) == ("warped" in names)
    terms["loss"].backward()
    unreached = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not unreached


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"conventions": PhysicalConventions(fusion="equation_12")},
        {"restoration": None},
        {"conventions": PhysicalConventions((0.7, 1.3, 2.5))},
        {"keypoints": True},
    ],
)
@pytest.mark.parametrize("pairs", [1, 2])
def test_every_parameter_gets_gradient_in_the_first_step(make_pretext, random_pairs, arguments, pairs):
    network, batch = make_pretext(**arguments), random_pairs(pairs)
    terms = GVSLLoss()(network(batch), batch)
    terms["loss"].backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_registration_alone_reaches_the_affine_head(make_pretext, random_pairs):
    # the restoration term may not hide a cut: 41 tensors, all by way of the warp
    network, batch = make_pretext(restoration=None), random_pairs()
    GVSLLoss()(network(batch), batch)["registration"].backward()
    norms = {name: p.grad.norm().item() for name, p in network.named_parameters() if p.grad is not None}
    assert set(norms) == {name for name, _ in network.named_parameters()}
    assert all(norm > 0 for norm in norms.values())
    for layer in ("rotation", "scale", "translation", "shear"):
        assert norms[f"matching_head.affine_head.{layer}.weight"] > 1e-5


def test_the_affine_registration_reaches_the_affine_head_alone(make_pretext, random_pairs):
    network, batch = make_pretext(), random_pairs()
    GVSLLoss(affine_registration_weight=1)(network(batch), batch)["affine_registration"].backward()
    heads = network.matching_head
    assert all(p.grad is not None and p.grad.any() for p in heads.affine_head.parameters())
    assert all(p.grad is not None and p.grad.any() for p in network.backbone.encoder.parameters())
    assert all(p.grad is None for p in heads.deformable_head.parameters())


@pytest.mark.parametrize("seed", range(3))
@torch.no_grad()
def test_the_displacement_starts_within_a_twentieth_of_a_voxel(make_pretext, random_pairs, seed):
    # measured 0.007 to 0.013 voxel
    network = make_pretext((8, 16, 32, 64, 128), 64, 16, 16, seed=seed)
    displacement = network(random_pairs(1, (48, 48, 48), seed))["displacement"]
    assert 0 < displacement.norm(dim=1).max() < 0.05


@torch.no_grad()
def test_the_displacement_starts_within_a_twentieth_of_a_voxel_at_full_widths(make_pretext, random_pairs):
    network = make_pretext((32, 64, 128, 256, 512), 256, 16, 16)
    displacement = network(random_pairs(1, (32, 32, 32)))["displacement"]
    assert 0 < displacement.norm(dim=1).max() < 0.05  # measured 0.013 to 0.017


def test_the_first_warp_is_close_to_the_moving_volume(make_pretext, random_pairs):
    network, batch = make_pretext(), random_pairs()
    torch.testing.assert_close(network(batch)["warped"], batch["moving"], atol=0.05, rtol=0)


def test_a_batch_is_its_items(make_pretext, random_pairs):
    network, batch = make_pretext(), random_pairs(2, (9, 8, 10))
    whole = network(batch)
    single = [network({name: value[i : i + 1] for name, value in batch.items()}) for i in range(2)]
    for name, value in whole.items():
        if name in FEATURES:  # A of both pairs, then B of both pairs
            expected = torch.cat([single[pair][name][view : view + 1] for view in range(2) for pair in range(2)])
        else:
            expected = torch.cat([outputs[name] for outputs in single])
        torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("conventions", "correlation"),
    [(PhysicalConventions(), LocalNCCLoss()), (AuthorsConventions(), AuthorsNCCLoss())],
)
def test_under_autocast_the_geometry_and_the_loss_are_float32(make_pretext, random_pairs, conventions, correlation):
    network, batch = make_pretext(conventions=conventions), random_pairs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = network(batch)
        terms = GVSLLoss(correlation=correlation)(outputs, batch)
    assert outputs["local"].dtype == torch.bfloat16  # autocast was on
    assert all(outputs[name].dtype == torch.float32 for name in MATCH)
    assert all(term.dtype == torch.float32 for term in terms.values())
    # the values are those of float32 geometry: warping again outside of autocast changes nothing
    assert torch.equal(network.matching_head.warp(batch["moving"], outputs), outputs["warped"])
    assert torch.equal(network.matching_head.warp_affine(batch["moving"], outputs), outputs["affine_warped"])
    again = GVSLLoss(correlation=correlation)(outputs, batch)
    assert all(torch.equal(again[name], term) for name, term in terms.items())
    terms["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_the_authors_conventions_also_train_the_affine_head(make_pretext, random_pairs):
    network, batch = make_pretext(conventions=AuthorsConventions()), random_pairs()
    GVSLLoss(correlation=AuthorsNCCLoss())(network(batch), batch)["loss"].backward()
    assert all(p.grad.any() for p in network.matching_head.affine_head.parameters())


def with_places(network: GVSLPretext, embedding: int | None = 6, places: int = 30) -> GVSLPretext:
    """The network with a similarity head, and with places."""
    head = SimilarityHead(8, embedding, levels=((2, 1), (1, 1)))
    matching = ZMatchingHead(network.matching_head.affine_head, head, network.matching_head.conventions)
    return GVSLPretext(network.backbone, matching, network.restoration_head, places=places)


@pytest.mark.parametrize("embedding", [None, 6])
def test_features_at_places_are_those_that_the_similarity_head_compares(make_pretext, random_pairs, embedding):
    network = with_places(make_pretext(), embedding)
    batch = random_pairs() | {"seed": torch.tensor([5, 6])}
    batch["fixed"][:, :, :8] = 0  # background
    outputs = network(batch)
    assert set(outputs) == FEATURES | MATCH | {"restored", "position", "moving_places", "fixed_places", "valid"}
    head, (moving, fixed) = network.matching_head.deformable_head, outputs["local"].chunk(2)
    position = outputs["position"]
    torch.testing.assert_close(outputs["fixed_places"], at_places(head.embed(fixed), position))
    matched = at_places(moving, position + at_places(outputs["displacement"], position))
    mean = moving.mean((2, 3, 4), keepdim=True)
    torch.testing.assert_close(outputs["moving_places"], head.embed(matched[..., None, None], mean).flatten(2))
    assert torch.equal(outputs["valid"], (position[:, 0] >= 8) & (at_places(outputs["warped"], position)[:, 0] > 0))
    assert 0 < outputs["valid"].float().mean() < 1


def test_background_is_where_no_channel_has_a_value(make_pretext, random_pairs):
    network = with_places(make_pretext())
    network.backbone, network.restoration_head = UNet3D(2, (8, 16, 32)), None
    batch = {name: torch.cat((value, value), dim=1) for name, value in random_pairs().items() if value.ndim == 5}
    batch["fixed"][:, 0, :8] = 0
    batch["fixed"][:, 1, :4] = 0
    outputs = network(batch | {"seed": torch.tensor([5, 6])})
    position = outputs["position"]
    moved = (at_places(outputs["warped"], position) > 0).any(dim=1)
    assert torch.equal(outputs["valid"], (position[:, 0] >= 4) & moved)
    assert (outputs["valid"] & (position[:, 0] < 8)).any()


def test_places_depend_on_the_seed_of_the_pair(make_pretext, random_pairs):
    network, batch = with_places(make_pretext()), random_pairs()
    first, again, other = (
        network(batch | {"seed": torch.tensor(seeds)})["position"] for seeds in ([1, 2], [1, 2], [1, 3])
    )
    assert torch.equal(first, again) and torch.equal(first[0], other[0]) and not torch.equal(first[1], other[1])


def test_places_need_a_similarity_head(make_pretext):
    network = make_pretext()
    with pytest.raises(ValueError, match="places is 9, expected 0 or a SimilarityHead as deformable_head"):
        GVSLPretext(network.backbone, network.matching_head, network.restoration_head, places=9)
