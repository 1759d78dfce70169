# SPDX-License-Identifier: Apache-2.0
"""The trainer: descends, names its terms, stops at what is not finite, follows the sampler."""

from __future__ import annotations

import warnings

import pytest
import torch
from ignite.engine import Events
from torch import nn
from torch.utils.data import DataLoader, Dataset

from custom.data import GlobalSampler
from custom.engines import PrepareBatch, PretextTrainer


class Line(nn.Module):
    """w x + b, on dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.tensor(0.0)), nn.Parameter(torch.tensor(0.0))

    def forward(self, batch: dict) -> dict:
        self.seen = (self.training, torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"))
        return {"line": self.weight * batch["x"] + self.bias}


def square(outputs: dict, batch: dict) -> dict:
    fit = (outputs["line"] - batch["y"]).square().mean()
    return {"loss": 2 * fit, "fit": fit}


def make_batches(count: int = 4) -> list[dict]:
    """y = 3 x - 1."""
    x = torch.randn(count, 8, generator=torch.Generator().manual_seed(0))
    return [{"x": row, "y": 3 * row - 1, "index": torch.tensor([2 * i, 2 * i + 1])} for i, row in enumerate(x)]


def make(batches=None, network=None, loss_function=square, learning_rate: float = 0.1, **arguments) -> PretextTrainer:
    network = Line() if network is None else network
    return PretextTrainer(
        device=torch.device("cpu"),
        train_data_loader=make_batches() if batches is None else batches,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), learning_rate),
        loss_function=loss_function,
        prepare_batch=PrepareBatch(),
        **{"max_epochs": 1, **arguments},
    )


def record(trainer: PretextTrainer) -> list[dict]:
    outputs = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.append(engine.state.output))
    return outputs


def test_a_toy_loss_is_reduced_to_its_minimum():
    trainer = make(max_epochs=30)
    outputs = record(trainer)
    trainer.run()
    assert len(outputs) == 120 and outputs[-1]["loss"] < 1e-6 < outputs[0]["loss"]
    assert trainer.network.weight.item() == pytest.approx(3, abs=1e-2)
    assert trainer.network.bias.item() == pytest.approx(-1, abs=1e-2)


def test_each_step_is_that_of_a_plain_loop():
    trainer, reference = make(max_epochs=2), Line()
    outputs = record(trainer)
    optimizer, expected = torch.optim.SGD(reference.parameters(), 0.1), []
    for batch in 2 * make_batches():
        terms = square(reference(batch), batch)
        optimizer.zero_grad()
        terms["loss"].backward()  # "loss" alone is descended on
        optimizer.step()
        expected.append({name: term.item() for name, term in terms.items()})
    trainer.run()
    assert outputs == expected
    assert all(type(value) is float for value in outputs[0].values())
    assert torch.equal(trainer.network.weight, reference.weight)


def test_batches_are_prepared():
    trainer = make()
    trainer.prepare_batch = PrepareBatch(lambda batch: batch | {"y": -batch["x"]})
    trainer.state.max_epochs = 30
    trainer.run()
    assert trainer.network.weight.item() == pytest.approx(-1, abs=1e-2)


def test_the_network_is_in_training_mode():
    trainer = make()
    trainer.network.eval()
    trainer.run()
    assert trainer.network.seen[0] and trainer.network.training


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run(bad):
    batches = make_batches()
    batches[2]["y"] = torch.full((8,), bad)
    trainer = make(
        batches, loss_function=lambda o, b: {"loss": (o["line"] - b["y"]).mean(), "other": torch.tensor(7.0)}
    )
    outputs = record(trainer)
    with pytest.raises(FloatingPointError) as error:
        trainer.run()
    for part in ("iteration 3", "[4, 5]", "'other': 7.0"):
        assert part in str(error.value)
    assert len(outputs) == 2  # the third step was not taken, so the network is still usable
    assert trainer.network.weight.isfinite() and trainer.network.bias.isfinite()


def test_a_loss_that_is_not_finite_stops_a_run_with_amp_as_well():
    batches = make_batches()
    batches[0]["y"] = torch.full((8,), float("nan"))
    with pytest.raises(FloatingPointError, match=r"iteration 1 .*\[0, 1\]"):
        make(batches, amp=True).run()


@pytest.mark.parametrize("amp", [False, True])
def test_amp_switches_autocast(amp):
    trainer = make(amp=amp, max_epochs=30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as the gradient scaler of CUDA would, where there is none
        trainer.run()
    assert trainer.network.seen[1:] == (amp, torch.bfloat16)
    assert trainer.network.weight.item() == pytest.approx(3, abs=0.05)


class Indices(Dataset):
    """Gives the index that it is asked for."""

    def __getitem__(self, index: int) -> dict:
        return {"x": torch.ones(1), "y": torch.ones(1), "index": torch.tensor(index)}


@pytest.mark.parametrize("workers", [0, 1])
def test_the_sampler_follows_the_epochs(workers):
    loader = DataLoader(Indices(), sampler=GlobalSampler(4, rank=0, world_size=1), batch_size=2, num_workers=workers)
    trainer, seen = make(loader, max_epochs=3), []
    trainer.add_event_handler(
        Events.ITERATION_STARTED, lambda engine: seen.extend(engine.state.batch["index"].tolist())
    )
    trainer.run()
    assert seen == list(range(12))


def test_the_sampler_follows_a_resumed_run():
    loader = DataLoader(Indices(), sampler=GlobalSampler(4, rank=0, world_size=1), batch_size=2)
    trainer, seen = make(loader, max_epochs=3), []

    @trainer.on(Events.STARTED)
    def resume(engine):
        engine.load_state_dict({"iteration": 4, "epoch_length": 2, "max_epochs": 3})

    trainer.add_event_handler(
        Events.ITERATION_STARTED, lambda engine: seen.extend(engine.state.batch["index"].tolist())
    )
    trainer.run()
    assert seen == [8, 9, 10, 11]


def test_errors_of_the_network_come_through():
    class Broken(Line):
        def forward(self, batch: dict) -> dict:
            raise RuntimeError("this is broken")

    with pytest.raises(RuntimeError, match="this is broken"):
        make(network=Broken()).run()
