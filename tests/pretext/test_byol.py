# SPDX-License-Identifier: Apache-2.0
"""BYOL: the loss against a loop, a twin that is apart and follows exactly, what is learnt, how a collapse shows."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from ignite.engine import Engine
from views import CHANNELS, VIEWS, ViewsTests, pairs, rows, step

from custom.networks import UNet3D
from custom.pretext.byol import BYOLLoss, BYOLPretext, TargetUpdate, target_momentum
from custom.pretext.projection import ProjectionMLP
from custom.weights import save_pretext


def network(seed: int = 0) -> BYOLPretext:
    torch.manual_seed(seed)
    return BYOLPretext(UNet3D(1, CHANNELS), ProjectionMLP(32, 64, 16), ProjectionMLP(16, 64, 16))


def online(model: BYOLPretext) -> dict[str, torch.Tensor]:
    """What the target follows, by the target's names."""
    followed = {"backbone": model.backbone, "projector": model.projector}
    return {f"{part}.{name}": p for part, module in followed.items() for name, p in module.named_parameters()}


class TestBYOL(ViewsTests):
    network, loss, outputs = staticmethod(network), BYOLLoss, {"prediction", "target_projection"}
    without_gradient = ("backbone.decoder", "target.")


def test_the_loss_is_the_sum_of_both_directions():
    prediction, target = rows(6, 5), rows(6, 5, seed=1)

    def distance(one: list[float], other: list[float]) -> float:
        one, other = ([value / math.hypot(*row) for value in row] for row in (one, other))
        return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))

    p, t = prediction.tolist(), target.tolist()
    volumes = [distance(p[i], t[i + 3]) + distance(p[i + 3], t[i]) for i in range(3)]
    outputs = {"prediction": prediction, "target_projection": target.detach()}
    assert BYOLLoss()(outputs, {})["loss"].item() == pytest.approx(sum(volumes) / 3)
    assert torch.autograd.gradcheck(lambda value: BYOLLoss()(outputs | {"prediction": value}, {})["loss"], prediction)


def test_online_predicts_what_the_target_makes_of_the_other_view():
    model, batch = network().eval(), pairs(1)
    for parameter in model.target.parameters():  # so that the two networks differ
        parameter.mul_(1.1)
    outputs = model(batch)
    for row, name in enumerate(VIEWS):
        pooled = model.backbone.forward_bottleneck(batch[name]).mean(dim=(2, 3, 4))
        followed = model.target["backbone"].forward_bottleneck(batch[name]).mean(dim=(2, 3, 4))
        torch.testing.assert_close(outputs["prediction"][row : row + 1], model.predictor(model.projector(pooled)))
        torch.testing.assert_close(outputs["target_projection"][row : row + 1], model.target["projector"](followed))
    perfect = torch.eye(4)[[0, 1, 0, 1]]  # both views of "moving" alike, both of "fixed" alike
    assert BYOLLoss()({"prediction": perfect, "target_projection": perfect}, {})["loss"] == 0


def test_the_twin_starts_equal_and_shares_no_storage():
    model = network().to(memory_format=torch.channels_last_3d)
    target = dict(model.target.named_parameters())
    for name, parameter in online(model).items():
        assert torch.equal(parameter, target[name])
    storages = [
        {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}
        for module in (model.target, torch.nn.ModuleList((model.backbone, model.projector, model.predictor)))
    ]
    assert all(storages) and not storages[0] & storages[1]
    assert not any(parameter.requires_grad for parameter in model.target.parameters())


def test_the_twin_is_in_the_state_dict_and_apart_from_the_backbone(tmp_path):
    model = network()
    names = [name for name in model.state_dict() if name.startswith("target.")]
    assert len(names) == len(model.backbone.state_dict()) + len(model.projector.state_dict())
    save_pretext(model, tmp_path, {})
    assert set(torch.load(tmp_path / "model.pt")) == set(model.backbone.state_dict())
    assert set(names) <= set(torch.load(tmp_path / "heads.pt"))


def test_the_optimiser_leaves_the_twin_alone_and_the_update_is_exact():
    model, batch = network(), pairs()
    before = {name: p.clone() for name, p in model.target.named_parameters()}
    step(model, BYOLLoss(), torch.optim.Adam(model.parameters(), 1e-2), batch)
    assert all(torch.equal(p, before[name]) for name, p in model.target.named_parameters())
    followed = {name: p.detach().clone() for name, p in online(model).items()}
    moved = [name for name in before if not torch.equal(before[name], followed[name])]
    assert any(name.startswith("backbone") for name in moved) and any(name.startswith("projector") for name in moved)
    model.update_target(0.75)
    for name, parameter in model.target.named_parameters():
        torch.testing.assert_close(parameter, 0.75 * before[name] + 0.25 * followed[name])
        assert torch.equal(online(model)[name], followed[name])
    still = {name: p.clone() for name, p in model.target.named_parameters()}
    model.update_target(1.0)
    assert all(torch.equal(p, still[name]) for name, p in model.target.named_parameters())


def test_momentum_goes_from_its_base_to_one():
    values = [target_momentum(0.99, k, 8) for k in range(9)]
    assert values == [pytest.approx(1 - 0.01 * (math.cos(math.pi * k / 8) + 1) / 2) for k in range(9)]
    assert values[0] == pytest.approx(0.99) and values[4] == pytest.approx(0.995) and values[8] == 1
    assert values == sorted(values)
    with pytest.raises(ValueError, match=r"base_momentum must be in \[0, 1\], got 1.2"):
        TargetUpdate(network(), 1.2)


def trainer(model: BYOLPretext, base: float, handler: bool = True) -> tuple[Engine, list[torch.Tensor]]:
    """Moves the online network by a known amount each iteration; the list gets one weight of it after each move."""
    weight, history = model.projector[0].weight, []

    def move(engine: Engine, batch: float) -> None:
        with torch.no_grad():
            weight.add_(engine.state.iteration)
        history.append(weight.detach().clone())

    engine = Engine(move)
    if handler:
        TargetUpdate(model, base).attach(engine)
    return engine, history


def test_the_handler_follows_each_iteration_with_the_momentum_of_its_step():
    model = network()
    expected = model.target["projector"][0].weight.clone()
    engine, history = trainer(model, 0.9)
    engine.run(range(3), max_epochs=2)
    for k, weight in enumerate(history):
        tau = 1 - 0.1 * (math.cos(math.pi * k / 6) + 1) / 2
        expected = tau * expected + (1 - tau) * weight
    assert len(history) == 6
    torch.testing.assert_close(model.target["projector"][0].weight, expected)


def test_a_resumed_run_goes_on_where_it_was():
    whole, parts = network(), network()
    trainer(whole, 0.5)[0].run(range(3), max_epochs=2)
    first = trainer(parts, 0.5)[0]
    first.add_event_handler("EPOCH_COMPLETED", lambda engine: engine.terminate())
    first.run(range(3), max_epochs=2)
    resumed = network(seed=1)
    resumed.load_state_dict(copy.deepcopy(parts.state_dict()))
    second = trainer(resumed, 0.5)[0]
    second.load_state_dict({"epoch_length": 3, "max_epochs": 2, "iteration": 3})
    second.run(range(3))
    assert second.state.iteration == 6
    for name, tensor in resumed.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name]), name


def test_it_learns_and_does_not_collapse():
    model, batch = network(), pairs()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    terms = []
    for _ in range(40):
        terms.append(step(model, BYOLLoss(), optimizer, batch))
        model.update_target(0.9)
    assert terms[0]["loss"] > 2 and terms[-1]["loss"] < 0.5
    assert terms[-1]["projection_spread"] > 0.3


def test_features_that_are_alike_show_in_the_spread_alone():
    model, batch = network(), pairs()
    with torch.no_grad():
        model.target["backbone"].encoder[-1][-2].weight.zero_()  # the last norm of the encoder gives a constant
    assert BYOLLoss()(model(batch), batch)["projection_spread"] < 1e-5
    alike = torch.ones(8, 4)
    terms = BYOLLoss()({"prediction": alike, "target_projection": alike}, {})
    assert terms == {"loss": pytest.approx(0, abs=1e-6), "projection_spread": 0}
