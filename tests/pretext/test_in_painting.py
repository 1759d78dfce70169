# SPDX-License-Identifier: Apache-2.0
"""In-painting: the masked loss by a naive loop, gradient inside the boxes alone, descent, collapse, the overlay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from scipy.ndimage import gaussian_filter

from custom.networks import RestorationHead, UNet3D
from custom.pretext.in_painting import SMALLEST_DAMAGE, InPaintingLoss, InPaintingPretext, masked_mse
from custom.weights import load_pretext, save_pretext

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "gvsl_pretrain" / "configs"
SIDES = (16, 16, 16)


def overlay() -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "train.json"), str(CONFIGS / "pretext" / "in_painting.json")])
    parser["patch_size"], parser["spacing"] = list(SIDES), [1.0, 1.0, 1.0]
    return parser


def make_network(seed: int = 0) -> InPaintingPretext:
    torch.manual_seed(seed)
    return InPaintingPretext(UNet3D(1, (8, 16, 32)), RestorationHead(8, 8))


def smooth(seed: int) -> torch.Tensor:
    """(1, 16, 16, 16) in [0, 1]: noise under a Gaussian."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=SIDES), 3, mode="wrap")
    return torch.from_numpy((noise - noise.min()) / np.ptp(noise)).float()[None]


def damaged_batch(pairs: int = 2, moved: bool = True) -> dict[str, torch.Tensor]:
    """A batch of smooth volumes with the damage and the spatial transform of the overlay."""
    parser, items = overlay(), []
    damage = parser.get_parsed_content("train#pair_transform")
    for pair in range(pairs):
        damage.set_random_state(seed=pair)
        items.append(damage({"moving": smooth(2 * pair), "fixed": smooth(2 * pair + 1)}))
    batch = {name: torch.stack([torch.as_tensor(item[name]) for item in items]) for name in items[0]}
    batch["seed"] = torch.arange(pairs)
    return parser.get_parsed_content("train#spatial_transform")(batch) if moved else batch


def descend(network: InPaintingPretext, batch: dict[str, torch.Tensor], steps: int) -> list[float]:
    optimizer, losses = torch.optim.Adam(network.parameters(), 3e-3), []
    for _ in range(steps):
        loss = InPaintingLoss()(network(batch), batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_outputs_and_who_sees_what():
    network, batch = make_network(), damaged_batch()
    assert set(network(batch)) == {"restored"}
    outputs = network.eval()(batch)
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "restored": (4, 1, *SIDES),
        "bottleneck": (4, 32, 4, 4, 4),
        "local": (4, 8, *SIDES),
    }
    for place, name in enumerate(("moving", "fixed")):
        half = slice(2 * place, 2 * place + 2)
        bottleneck, local = network.backbone.forward_features(batch[name])
        torch.testing.assert_close(outputs["bottleneck"][half], bottleneck)
        torch.testing.assert_close(outputs["local"][half], local)
        damaged = network.backbone.forward_features(batch[name + "_transformed"])[1]
        torch.testing.assert_close(outputs["restored"][half], network.restoration_head(damaged))


def test_the_loss_is_a_naive_loop():
    network, batch = make_network(), damaged_batch()
    outputs = network(batch)
    squares = []
    for volume in range(4):
        name, pair = ("moving", "fixed")[volume // 2], volume % 2
        for place in np.ndindex(*SIDES):
            clean, damaged = batch[name][pair, 0][place].item(), batch[name + "_transformed"][pair, 0][place].item()
            if abs(damaged - clean) > 1e-4:
                squares.append((outputs["restored"][volume, 0][place].item() - clean) ** 2)
    assert 0 < len(squares) < 0.5 * outputs["restored"].numel()
    terms = InPaintingLoss()(outputs, batch)
    assert set(terms) == {"loss", "restoration"} and terms["restoration"] is terms["loss"]
    assert terms["loss"].item() == pytest.approx(np.mean(squares), rel=1e-5)


def test_a_hand_worked_case():
    restored = torch.tensor([1.0, 2.0, 3.0, 9.0], requires_grad=True)
    mask = torch.tensor([True, False, True, False])
    error = masked_mse(restored, torch.tensor([0.0, 0.0, 1.0, 0.0]), mask)
    error.backward()
    assert error.item() == (1 + 4) / 2
    assert restored.grad.tolist() == [1, 0, 2, 0]  # 2 * difference / voxels of the mask


def test_without_damage_the_loss_is_zero_and_finite():
    network, batch = make_network(), damaged_batch()
    batch |= {"moving_transformed": batch["moving"], "fixed_transformed": batch["fixed"]}
    loss = InPaintingLoss()(network(batch), batch)["loss"]
    loss.backward()
    assert loss.item() == 0
    assert all(not parameter.grad.any() for parameter in network.parameters())


def test_undamaged_voxels_get_no_gradient():
    network, batch = make_network(), damaged_batch()
    restored = network(batch)["restored"].detach().requires_grad_()
    InPaintingLoss()({"restored": restored}, batch)["loss"].backward()
    for place, name in enumerate(("moving", "fixed")):
        same = batch[name] == batch[name + "_transformed"]
        gradient = restored.grad[2 * place : 2 * place + 2]
        assert same.any() and not gradient[same].any() and gradient[~same].any()


def test_both_volumes_count_alike():
    network, batch = make_network(), damaged_batch()
    names = ("moving", "moving_transformed", "fixed", "fixed_transformed")
    swapped = dict(zip(names, (batch[name] for name in names[2:] + names[:2]), strict=True))
    torch.testing.assert_close(
        InPaintingLoss()(network(batch), batch)["loss"], InPaintingLoss()(network(swapped), swapped)["loss"]
    )


def test_every_parameter_gets_gradient_and_the_targets_none():
    network, batch = make_network(), damaged_batch()
    for name in ("moving", "fixed"):
        batch[name].requires_grad_()
    InPaintingLoss()(network(batch), {name: value.detach() for name, value in batch.items()})["loss"].backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())
    assert batch["moving"].grad is None and batch["fixed"].grad is None  # the network never sees the clean volumes


def test_descent_reduces_the_loss_and_constant_features_cost():
    network, batch = make_network(), damaged_batch(1)
    losses = descend(network, batch, 50)
    assert losses[-1] < 0.2 * losses[0]
    with torch.no_grad():
        last = network.backbone.decoder[-1][4]  # group norm: with zeros, all local features are 0
        last.weight.zero_()
        last.bias.zero_()
        outputs = network.eval()(batch)
        assert outputs["local"].std() == 0
        collapsed = InPaintingLoss()(outputs, batch)["loss"].item()
    pairs = [(batch[name + "_transformed"], batch[name]) for name in ("moving", "fixed")]
    inside = torch.cat([clean[(damaged - clean).abs() > SMALLEST_DAMAGE] for damaged, clean in pairs])
    assert collapsed >= inside.var(correction=0).item() > 2 * losses[-1]


def test_a_batch_is_its_items():
    network, batch = make_network().eval(), damaged_batch()
    whole = network(batch)
    single = [network({name: value[i : i + 1] for name, value in batch.items()}) for i in range(2)]
    for name, value in whole.items():
        expected = torch.cat([single[pair][name][side : side + 1] for side in range(2) for pair in range(2)])
        torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-4)


def test_the_loss_is_float32_under_autocast():
    network, batch = make_network(), damaged_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = network(batch)
        loss = InPaintingLoss()(outputs, batch)["loss"]
    assert outputs["restored"].dtype == torch.bfloat16 and loss.dtype == torch.float32
    exact = InPaintingLoss()({"restored": outputs["restored"].float()}, batch)["loss"]
    torch.testing.assert_close(loss, exact, rtol=0, atol=0)


def test_round_trip(tmp_path):
    network, other, batch = make_network(0), make_network(1), damaged_batch()
    save_pretext(network, tmp_path, {"pretext_task": "in_painting"})
    assert load_pretext(other, tmp_path)["pretext_task"] == "in_painting"
    assert torch.equal(network(batch)["restored"], other(batch)["restored"])
    backbone = UNet3D(1, (8, 16, 32))
    backbone.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))  # nothing else is in model.pt


def test_the_overlay_paints_about_a_quarter_of_each_volume_on_its_own():
    batch = damaged_batch(20, moved=False)
    masks = [(batch[name + "_transformed"] != batch[name]).flatten(1) for name in ("moving", "fixed")]
    for mask in masks:
        share = mask.float().mean(dim=1)
        assert share.min() > 0.1 and 0.15 < share.mean() < 0.25 and share.max() < 0.3
    assert all((moving != fixed).any() for moving, fixed in zip(*masks, strict=True))


def test_the_mask_follows_the_boxes_through_the_spatial_transform():
    still, moved = damaged_batch(4, moved=False), damaged_batch(4)
    warp = overlay().get_parsed_content("train#spatial_transform")
    for name in ("moving", "fixed"):
        painted = (still[name + "_transformed"] != still[name]).float()
        follower = warp({**still, name: painted, name + "_transformed": painted})[name]
        mask = (moved[name + "_transformed"] - moved[name]).abs() > SMALLEST_DAMAGE
        assert not mask[follower == 0].any()  # exactly equal wherever no painted voxel was mixed in
        assert mask[follower > 0.9].float().mean() > 0.99
