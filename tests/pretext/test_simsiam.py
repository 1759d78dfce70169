# SPDX-License-Identifier: Apache-2.0
"""SimSiam: the loss against a loop, where gradient stops, what it learns, and how a collapse shows."""

from __future__ import annotations

import math

import pytest
import torch
from views import CHANNELS, VIEWS, ViewsTests, pairs, rows, step

from custom.networks import UNet3D
from custom.pretext.projection import ProjectionMLP
from custom.pretext.simsiam import SimSiamLoss, SimSiamPretext


def network(seed: int = 0) -> SimSiamPretext:
    torch.manual_seed(seed)
    return SimSiamPretext(UNet3D(1, CHANNELS), ProjectionMLP(32, 32, 32, 3), ProjectionMLP(32, 8, 32))


class TestSimSiam(ViewsTests):
    network, loss, outputs = staticmethod(network), SimSiamLoss, {"projection", "prediction"}


def test_the_loss_is_the_mean_of_both_directions():
    prediction, projection = rows(6, 5), rows(6, 5, seed=1)
    p, z = prediction.tolist(), projection.tolist()

    def distance(one: list[float], other: list[float]) -> float:
        product = sum(a * b for a, b in zip(one, other, strict=True))
        return -product / math.hypot(*one) / math.hypot(*other)

    volumes = [distance(p[i], z[i + 3]) / 2 + distance(p[i + 3], z[i]) / 2 for i in range(3)]
    loss = SimSiamLoss()({"prediction": prediction, "projection": projection}, {})["loss"]
    assert loss.item() == pytest.approx(sum(volumes) / 3)


def test_no_gradient_goes_to_what_is_predicted():
    prediction, projection = rows(6, 5), rows(6, 5, seed=1)
    SimSiamLoss()({"prediction": prediction, "projection": projection}, {})["loss"].backward()
    assert projection.grad is None and prediction.grad.norm(dim=1).min() > 0
    target = projection.detach()
    assert torch.autograd.gradcheck(
        lambda value: SimSiamLoss()({"prediction": value, "projection": target}, {})["loss"], prediction
    )


def test_the_networks_gradient_is_that_of_fixed_targets():
    model, batch = network().double(), {name: views.double() for name, views in pairs().items()}
    fixed = model(batch)["projection"].detach()
    SimSiamLoss()(model(batch), batch)["loss"].backward()
    found = [parameter.grad.clone() for parameter in model.backbone.encoder.parameters()]
    model.zero_grad()
    SimSiamLoss()(model(batch) | {"projection": fixed}, batch)["loss"].backward()
    for parameter, gradient in zip(model.backbone.encoder.parameters(), found, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_who_is_predicted_from_whom():
    model, batch = network().eval(), pairs(1)
    outputs = model(batch)
    for row, name in enumerate(VIEWS):
        pooled = model.backbone.forward_bottleneck(batch[name]).mean(dim=(2, 3, 4))
        torch.testing.assert_close(outputs["projection"][row : row + 1], model.projector(pooled))
        torch.testing.assert_close(outputs["prediction"][row : row + 1], model.predictor(model.projector(pooled)))
    perfect = torch.eye(4)[[0, 1, 0, 1]]  # both views of "moving" alike, both of "fixed" alike
    assert SimSiamLoss()({"prediction": perfect, "projection": perfect}, {})["loss"] == -1


def test_it_learns_and_does_not_collapse():
    model, batch = network(), pairs()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    terms = []
    for _ in range(40):
        terms.append(step(model, SimSiamLoss(), optimizer, batch))
    assert terms[0]["loss"] > -0.2 and terms[-1]["loss"] < -0.6
    assert terms[-1]["projection_spread"] > 0.3


def test_features_that_are_alike_show_in_the_spread_alone():
    model, batch = network(), pairs()
    with torch.no_grad():
        model.backbone.encoder[-1][-2].weight.zero_()  # the last norm of the encoder gives a constant
    terms = SimSiamLoss()(model(batch), batch)
    assert terms["projection_spread"] < 1e-5
    alike = torch.ones(8, 4)
    assert SimSiamLoss()({"prediction": alike, "projection": alike}, {}) == {"loss": -1, "projection_spread": 0}
