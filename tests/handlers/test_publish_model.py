# SPDX-License-Identifier: Apache-2.0
"""PublishModel: the files of a run replace those of the bundle when it ends, if they are sound."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events

from custom.handlers import PublishModel
from custom.weights import read_weights, save_weights


def write(folder: Path, value: float) -> None:
    save_weights(folder, {"model.pt": ("network", {"x": torch.full((2,), value)})}, {"iterations": int(value)})


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A run's output that does not exist yet, and a bundle's weights."""
    write(tmp_path / "models", 1)
    (tmp_path / "models" / "backbone.pt").write_bytes(b"stays")
    return tmp_path / "output", tmp_path / "models"


def train(source: Path, target: Path, spoil: bool = False) -> None:
    """An engine whose handler writes its model at the end, before PublishModel's turn."""
    trainer = Engine(lambda engine, batch: None)

    @trainer.on(Events.COMPLETED)
    def finish() -> None:
        write(source, 2)
        if spoil:
            torch.save({"x": torch.zeros(2)}, source / "model.pt")

    PublishModel(str(source), str(target)).attach(trainer)
    trainer.run([0])


def test_the_model_of_the_run_replaces_the_one_before(folders: tuple[Path, Path]) -> None:
    source, target = folders
    train(source, target)
    state, description = read_weights(target)
    assert state["x"].tolist() == [2, 2] and description["iterations"] == 2
    assert sorted(path.name for path in target.iterdir()) == ["backbone.pt", "model.json", "model.pt"]
    assert (target / "backbone.pt").read_bytes() == b"stays"
    assert read_weights(source)[1]["iterations"] == 2  # and the run keeps its own


def test_a_model_that_is_not_the_described_one_is_not_published(folders: tuple[Path, Path]) -> None:
    source, target = folders
    with pytest.raises(ValueError, match="model.pt has SHA-256"):
        train(source, target, spoil=True)
    assert read_weights(target)[1]["iterations"] == 1
