# SPDX-License-Identifier: Apache-2.0
"""The loss of MONAI's supervised trainer as one number, and classes that no training volume holds."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from torch import nn

from custom.handlers import AbsentClasses, AveragedLoss


def make(values, handlers=()) -> SupervisedTrainer:
    network = nn.Linear(1, 1)
    batches = [
        {"image": torch.full((2, 1), value), "label": torch.ones(2, 1), "index": torch.tensor([2 * n, 2 * n + 1])}
        for n, value in enumerate(values)
    ]
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=batches,
        epoch_length=len(batches),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.1),
        loss_function=nn.MSELoss(),
        train_handlers=[AveragedLoss(), *handlers],
        decollate=False,
    )


def test_the_output_is_the_loss_as_a_float():
    trainer, found = make([1.0, 2.0]), []
    first = nn.MSELoss()(trainer.network(torch.ones(2, 1)), torch.ones(2, 1)).item()
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: found.append(engine.state.output))
    trainer.run()
    assert [list(output) for output in found] == [["loss"], ["loss"]] and type(found[0]["loss"]) is float
    assert found[0]["loss"] == first


@pytest.mark.filterwarnings("ignore")
def test_the_loss_is_that_of_all_processes(monkeypatch):
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("ignite.distributed.all_reduce", lambda tensor: tensor + 10)  # the other one's loss is 10
    monkeypatch.setattr("ignite.distributed.device", lambda: torch.device("cpu"))
    trainer = make([1.0])
    own = nn.MSELoss()(trainer.network(torch.ones(2, 1)), torch.ones(2, 1)).item()
    trainer.run()
    assert trainer.state.output["loss"] == pytest.approx((own + 10) / 2)


def test_a_loss_that_is_not_finite_stops_before_the_step():
    trainer = make([1.0, float("nan"), 1.0])
    with pytest.raises(FloatingPointError, match=r"iteration 2 must be finite, found \{'loss': nan\} .*\[2, 3\]"):
        trainer.run()
    assert all(parameter.isfinite().all() for parameter in trainer.network.parameters())


@pytest.mark.parametrize(
    ("labels", "absent"),
    [
        ([torch.tensor([0, 1]), torch.tensor([0, 2, 2])], []),
        ([torch.tensor([0, 2]), torch.tensor([0])], ["myocardium"]),
        ([torch.tensor([0])], ["myocardium", "aorta"]),
        ([2, 1, 1], []),
        ([1, 1, 0], ["aorta"]),
    ],
)
def test_absent_classes_are_named(labels, absent, caplog):
    dataset = SimpleNamespace(volumes=[{"label": label} for label in labels])
    with caplog.at_level(logging.WARNING):
        make([1.0], [AbsentClasses(dataset, {"myocardium": 1, "aorta": 2})]).run()
    assert [record.message.split()[-5] for record in caplog.records] == [f"{name}:" for name in absent]
    assert all(f"none of the {len(labels)} training volumes" in record.message for record in caplog.records)
