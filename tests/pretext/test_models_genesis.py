# SPDX-License-Identifier: Apache-2.0
"""Models Genesis: the loss by a naive loop, gradient, descent, collapse, and the rates of its three damages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import OneOf
from scipy.ndimage import gaussian_filter

from custom.networks import RestorationHead, UNet3D
from custom.pretext.models_genesis import ModelsGenesisLoss, ModelsGenesisPretext
from custom.weights import load_pretext, save_pretext

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "gvsl_pretrain" / "configs"
SIDES = (16, 16, 16)
NAMES = ("moving", "fixed")


def overlay() -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "train.json"), str(CONFIGS / "pretext" / "models_genesis.json")])
    parser["patch_size"], parser["spacing"] = list(SIDES), [1.0, 1.0, 1.0]
    return parser


def make_network(seed: int = 0) -> ModelsGenesisPretext:
    torch.manual_seed(seed)
    return ModelsGenesisPretext(UNet3D(1, (8, 16, 32)), RestorationHead(8, 8))


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


def descend(network: ModelsGenesisPretext, batch: dict[str, torch.Tensor], steps: int) -> list[float]:
    optimizer, losses = torch.optim.Adam(network.parameters(), 3e-3), []
    for _ in range(steps):
        loss = ModelsGenesisLoss()(network(batch), batch)["loss"]
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
        clean = batch["moving" if volume < 2 else "fixed"][volume % 2, 0]
        for place in np.ndindex(*SIDES):
            squares.append((outputs["restored"][volume, 0][place].item() - clean[place].item()) ** 2)
    terms = ModelsGenesisLoss()(outputs, batch)
    assert set(terms) == {"loss", "restoration"} and terms["restoration"] is terms["loss"]
    assert terms["loss"].item() == pytest.approx(np.mean(squares), rel=1e-5)


def test_both_volumes_count_alike():
    network, batch = make_network(), damaged_batch()
    names = ("moving", "moving_transformed", "fixed", "fixed_transformed")
    swapped = dict(zip(names, (batch[name] for name in names[2:] + names[:2]), strict=True))
    torch.testing.assert_close(
        ModelsGenesisLoss()(network(batch), batch)["loss"], ModelsGenesisLoss()(network(swapped), swapped)["loss"]
    )


def test_every_parameter_gets_gradient_and_the_targets_none():
    network, batch = make_network(), damaged_batch()
    for name in ("moving", "fixed"):
        batch[name].requires_grad_()
    ModelsGenesisLoss()(network(batch), {name: value.detach() for name, value in batch.items()})["loss"].backward()
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
        collapsed = ModelsGenesisLoss()(outputs, batch)["loss"].item()
    assert collapsed >= torch.cat((batch["moving"], batch["fixed"])).var(correction=0).item() > 2 * losses[-1]


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
        loss = ModelsGenesisLoss()(outputs, batch)["loss"]
    assert outputs["restored"].dtype == torch.bfloat16 and loss.dtype == torch.float32
    exact = ModelsGenesisLoss()({"restored": outputs["restored"].float()}, batch)["loss"]
    torch.testing.assert_close(loss, exact, rtol=0, atol=0)


def test_round_trip(tmp_path):
    network, other, batch = make_network(0), make_network(1), damaged_batch()
    save_pretext(network, tmp_path, {"pretext_task": "models_genesis"})
    assert load_pretext(other, tmp_path)["pretext_task"] == "models_genesis"
    assert torch.equal(network(batch)["restored"], other(batch)["restored"])
    backbone = UNet3D(1, (8, 16, 32))
    backbone.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))  # nothing else is in model.pt


def painted_share(volume: torch.Tensor) -> float:
    """Share of the voxels of a damaged constant volume that do not have the value of most of them."""
    values, counts = volume.unique(return_counts=True)
    return 1 - counts.max().item() / volume.numel() if counts.max() > 1 else 1.0


def test_the_overlay_has_the_rates_of_the_paper():
    damage = overlay().get_parsed_content("train#pair_transform").set_random_state(seed=0)
    constant = torch.full((1, *SIDES), 0.5)
    draws = 600
    damaged = [damage({"moving": constant, "fixed": constant}) for _ in range(draws)]
    shares = {name: np.array([painted_share(item[name + "_transformed"]) for item in damaged]) for name in NAMES}
    for share in shares.values():
        # Five boxes of a third of each side are 19 % of the voxels; five of four sevenths leave 7 % outside or more.
        in_painted, out_painted = (share > 0) & (share < 0.2), share > 0.2
        # 0.9 of 0.2 and of 0.8; four standard deviations of 600 draws are 0.06
        assert in_painted.mean() == pytest.approx(0.18, abs=0.06)
        assert out_painted.mean() == pytest.approx(0.72, abs=0.07)
    # each volume has a draw of its own
    assert abs(np.corrcoef(shares["moving"], shares["fixed"])[0, 1]) < 0.2


def test_shuffling_and_curve_have_the_rates_of_the_paper():
    damage = overlay().get_parsed_content("train#pair_transform").set_random_state(seed=0)
    steps = [step for step in damage.transforms if not isinstance(step, OneOf)][2:]
    volume, draws = smooth(0), 400
    shuffled, curved, falling = [], [], []
    for _ in range(draws):
        results = [step({name + "_transformed": volume for name in NAMES}) for step in steps]
        for place, name in ((0, "moving"), (2, "fixed")):
            key = name + "_transformed"
            shuffled.append(not torch.equal(results[place][key], volume))
            assert torch.isin(results[place][key], volume).all()
            curved.append(not torch.equal(results[place + 1][key], volume))
            falling.append((results[place + 1][key][volume == 1] == 0).all().item())
    # 800 draws: four standard deviations are 0.07
    assert np.mean(shuffled) == pytest.approx(0.5, abs=0.07)
    assert np.mean(curved) == pytest.approx(0.9, abs=0.05)
    assert np.mean(falling) == pytest.approx(0.45, abs=0.07)


def test_undamaged_voxels_count_too():
    batch = damaged_batch()
    restored = torch.cat((batch["moving"], batch["fixed"])) + 0.1
    assert ModelsGenesisLoss()({"restored": restored}, batch)["loss"].item() == pytest.approx(0.01, rel=1e-4)
