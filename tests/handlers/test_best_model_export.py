# SPDX-License-Identifier: Apache-2.0
"""The best network is kept, described, and still the best after a resumed run."""

from __future__ import annotations

import json

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from custom.files import sha256
from custom.handlers import BestModelExport
from custom.weights import load_network, save_weights

NAN = float("nan")
DESCRIPTION = {"pretext_task": "gvsl", "iterations": 9, "trained_on": "synthetic"}


class Run:
    """A trainer that adds 1 to the only weight in each epoch, and a validator with a given metric after each."""

    def __init__(self, directory, metrics, done: int = 0, **arguments) -> None:
        self.network = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.network.weight, done)
        self.validator = Engine(lambda engine, batch: None)
        self.trainer = Engine(lambda engine, batch: self.network.weight.data.add_(1))
        self.validator.state.key_metric_name = "dice"
        values = iter(metrics)

        @self.validator.on(Events.COMPLETED)
        def measure(engine):
            engine.state.metrics.update(dice=next(values), other=0.5)

        arguments = {"metric": "dice", "task": "toy", "labels": {"b": 7, "a": 3}, "weights": None} | arguments
        BestModelExport(
            self.network,
            str(directory),
            self.validator,
            preprocessing={"spacing": [1, 1, 1]},
            components={},
            data=[],
            seed=5,
            **arguments,
        ).attach(self.trainer)
        if done:
            self.trainer.load_state_dict({"iteration": done, "epoch_length": 1, "max_epochs": done})
        if metrics:
            self.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: self.validator.run([0]))
        self.trainer.run([0], max_epochs=done + max(len(metrics), 1), epoch_length=1)


def kept(directory) -> tuple[float, dict]:
    state = torch.load(directory / "model.pt", weights_only=True)
    return state["weight"].item(), json.loads((directory / "model.json").read_text())


@pytest.mark.parametrize(
    ("metrics", "best"),
    [([0.1, 0.5, 0.3], 2), ([0.5, 0.5, 0.5], 1), ([0.1, 0.2, 0.3], 3), ([NAN, 0.2, NAN], 2), ([NAN, NAN], 1)],
)
def test_the_best_validation_is_kept(tmp_path, metrics, best):
    Run(tmp_path, metrics)
    weight, description = kept(tmp_path)
    value = metrics[best - 1]
    assert weight == best == description["iterations"] == description["best"]["iteration"]
    assert description["best"]["metric"] == "dice" and description["best"]["value"] == (
        value if value == value else None
    )
    assert description["metrics"]["other"] == 0.5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.pt"]


def test_the_description(tmp_path):
    weights = tmp_path / "start"
    save_weights(weights, {"model.pt": ("backbone", {"w": torch.ones(1)})}, DESCRIPTION)
    Run(tmp_path / "run", [0.5], weights=str(weights))
    _, description = kept(tmp_path / "run")
    assert description["task"] == "toy" and list(description["labels"].items()) == [("b", 7), ("a", 3)]
    assert description["started_from"] == {
        "file": "model.pt",
        "sha256": sha256(weights / "model.pt"),
        "pretext_task": "gvsl",
        "iterations": 9,
        "trained_on": "synthetic",
    }
    assert description["trained_on"] == "files"
    assert description["seed"] == 5 and description["files"]["model.pt"]["keys"] == ["weight"]
    assert description["preprocessing"] == {"spacing": [1, 1, 1]} and "torch" in description["versions"]
    Run(tmp_path / "scratch", [0.5])
    assert kept(tmp_path / "scratch")[1]["started_from"] is None


def test_a_resumed_run_knows_the_best_so_far(tmp_path):
    Run(tmp_path, [0.1, 0.6])
    Run(tmp_path, [0.5, 0.6, 0.4], done=2)
    assert kept(tmp_path)[0] == 2
    Run(tmp_path, [0.7], done=5)
    assert kept(tmp_path)[0] == 6


def test_a_run_without_validation_keeps_its_last_network(tmp_path, caplog):
    Run(tmp_path, [])
    weight, description = kept(tmp_path)
    assert weight == 1 and description["best"] == {"metric": None, "value": None, "iteration": 1}
    assert "no validation" in caplog.text


def test_the_key_metric_is_the_default_and_an_unknown_one_is_named(tmp_path):
    Run(tmp_path / "key", [0.25], metric=None)
    assert kept(tmp_path / "key")[1]["best"]["value"] == 0.25
    with pytest.raises(KeyError, match=r"\['dice', 'other'\], expected 'auc'"):
        Run(tmp_path / "unknown", [0.25], metric="auc")


def test_other_processes_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    Run(tmp_path / "run", [0.5])
    assert not (tmp_path / "run").exists()


def test_the_export_loads_again(tmp_path):
    Run(tmp_path, [0.1, 0.9])
    assert load_network(nn.Linear(1, 1, bias=False), str(tmp_path), {"b": 7, "a": 3}).weight.item() == 2


def test_weights_that_the_shared_model_json_describes(tmp_path):
    weights = tmp_path / "start"
    save_weights(weights, {"model.pt": ("backbone", {}), "other.pt": ("backbone", {"w": torch.ones(1)})}, DESCRIPTION)
    Run(tmp_path / "run", [0.5], weights=str(weights / "other.pt"))
    started_from = kept(tmp_path / "run")[1]["started_from"]
    assert started_from == {"file": "other.pt", "sha256": sha256(weights / "other.pt"), **DESCRIPTION}
