# SPDX-License-Identifier: Apache-2.0
"""Tests of every task of custom/pretext/restoration.py: inputs, loss, gradient, descent, collapse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from scipy.ndimage import gaussian_filter
from torch import nn

from custom.networks import RestorationHead, UNet3D
from custom.pretext.restoration import RestorationPretext
from custom.weights import load_pretext, save_pretext

CONFIGS = Path(__file__).resolve().parents[2] / "bundles" / "gvsl_pretrain" / "configs"
SIDES = (16, 16, 16)


def smooth(seed: int) -> torch.Tensor:
    """(1, 16, 16, 16) in [0, 1]: noise under a Gaussian."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=SIDES), 3, mode="wrap")
    return torch.from_numpy((noise - noise.min()) / np.ptp(noise)).float()[None]


class RestorationTests:
    """The base of the test classes, for a loss over all voxels."""

    task: str
    loss: type[nn.Module]

    def overlay(self) -> ConfigParser:
        parser = ConfigParser()
        parser.read_config([str(CONFIGS / "train.json"), str(CONFIGS / "pretext" / f"{self.task}.json")])
        parser["patch_size"], parser["spacing"] = list(SIDES), [1.0, 1.0, 1.0]
        return parser

    def make_network(self, seed: int = 0) -> RestorationPretext:
        torch.manual_seed(seed)
        return RestorationPretext(UNet3D(1, (8, 16, 32)), RestorationHead(8, 8))

    def damaged_batch(self, pairs: int = 2, moved: bool = True) -> dict[str, torch.Tensor]:
        """A batch of smooth volumes with the damage and the spatial transform of the overlay."""
        parser, items = self.overlay(), []
        damage = parser.get_parsed_content("train#pair_transform")
        for pair in range(pairs):
            damage.set_random_state(seed=pair)
            items.append(damage({"moving": smooth(2 * pair), "fixed": smooth(2 * pair + 1)}))
        batch = {name: torch.stack([torch.as_tensor(item[name]) for item in items]) for name in items[0]}
        batch["seed"] = torch.arange(pairs)
        return parser.get_parsed_content("train#spatial_transform")(batch) if moved else batch

    def descend(self, network: RestorationPretext, batch: dict[str, torch.Tensor], steps: int) -> list[float]:
        optimizer, losses = torch.optim.Adam(network.parameters(), 3e-3), []
        for _ in range(steps):
            loss = self.loss()(network(batch), batch)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    def target(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The intensities that the loss compares with."""
        return torch.cat((batch["moving"], batch["fixed"]))

    def test_outputs_and_who_sees_what(self):
        network, batch = self.make_network(), self.damaged_batch()
        assert set(network(batch)) == {"restored"}
        outputs = network.eval()(batch)
        assert {name: tuple(value.shape) for name, value in outputs.items()} == {
            "restored": (4, 1, *SIDES),
            "bottleneck": (4, 32, 4, 4, 4),
            "local": (4, 8, *SIDES),
        }
        for index, name in enumerate(("moving", "fixed")):
            half = slice(2 * index, 2 * index + 2)
            bottleneck, local = network.backbone.forward_features(batch[name])
            torch.testing.assert_close(outputs["bottleneck"][half], bottleneck)
            torch.testing.assert_close(outputs["local"][half], local)
            damaged = network.backbone.forward_features(batch[name + "_transformed"])[1]
            torch.testing.assert_close(outputs["restored"][half], network.restoration_head(damaged))

    def test_the_loss_is_a_naive_loop(self):
        network, batch = self.make_network(), self.damaged_batch()
        outputs = network(batch)
        squares = []
        for volume in range(4):
            clean = batch["moving" if volume < 2 else "fixed"][volume % 2, 0]
            for index in np.ndindex(*SIDES):
                squares.append((outputs["restored"][volume, 0][index].item() - clean[index].item()) ** 2)
        terms = self.loss()(outputs, batch)
        assert set(terms) == {"loss", "restoration"} and terms["restoration"] is terms["loss"]
        assert terms["loss"].item() == pytest.approx(np.mean(squares), rel=1e-5)

    def test_both_volumes_count_alike(self):
        network, batch = self.make_network(), self.damaged_batch()
        names = ("moving", "moving_transformed", "fixed", "fixed_transformed")
        swapped = dict(zip(names, (batch[name] for name in names[2:] + names[:2]), strict=True))
        torch.testing.assert_close(
            self.loss()(network(batch), batch)["loss"], self.loss()(network(swapped), swapped)["loss"]
        )

    def test_every_parameter_gets_gradient_and_the_targets_none(self):
        network, batch = self.make_network(), self.damaged_batch()
        for name in ("moving", "fixed"):
            batch[name].requires_grad_()
        self.loss()(network(batch), {name: value.detach() for name, value in batch.items()})["loss"].backward()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())
        assert batch["moving"].grad is None and batch["fixed"].grad is None  # the network never sees the clean volumes

    def test_descent_reduces_the_loss_and_constant_features_cost(self):
        network, batch = self.make_network(), self.damaged_batch(1)
        losses = self.descend(network, batch, 50)
        assert losses[-1] < 0.2 * losses[0]
        with torch.no_grad():
            last = network.backbone.decoder[-1][4]  # group norm: with zeros, all local features are 0
            last.weight.zero_()
            last.bias.zero_()
            outputs = network.eval()(batch)
            assert outputs["local"].std() == 0
            collapsed = self.loss()(outputs, batch)["loss"].item()
        assert collapsed >= self.target(batch).var(correction=0).item() > 2 * losses[-1]

    def test_a_batch_is_its_items(self):
        network, batch = self.make_network().eval(), self.damaged_batch()
        whole = network(batch)
        single = [network({name: value[i : i + 1] for name, value in batch.items()}) for i in range(2)]
        for name, value in whole.items():
            expected = torch.cat([single[pair][name][side : side + 1] for side in range(2) for pair in range(2)])
            torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-4)

    def test_the_loss_is_float32_under_autocast(self):
        network, batch = self.make_network(), self.damaged_batch()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = network(batch)
            loss = self.loss()(outputs, batch)["loss"]
        assert outputs["restored"].dtype == torch.bfloat16 and loss.dtype == torch.float32
        exact = self.loss()({"restored": outputs["restored"].float()}, batch)["loss"]
        torch.testing.assert_close(loss, exact, rtol=0, atol=0)

    def test_round_trip(self, tmp_path):
        network, other, batch = self.make_network(0), self.make_network(1), self.damaged_batch()
        save_pretext(network, tmp_path, {"pretext_task": self.task})
        assert load_pretext(other, tmp_path)["pretext_task"] == self.task
        assert torch.equal(network(batch)["restored"], other(batch)["restored"])
        backbone = UNet3D(1, (8, 16, 32))
        backbone.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))  # nothing else is in model.pt
