# SPDX-License-Identifier: Apache-2.0
"""A new run sets the files of an earlier one aside; a resumed run does not."""

from __future__ import annotations

import os

import pytest
from ignite.engine import Engine

from custom.handlers import SetAsideEarlierRun


def run(directory, resume: bool = False, iteration: int = 0) -> None:
    engine = Engine(lambda engine, batch: None)
    if iteration:
        engine.load_state_dict({"iteration": iteration, "epoch_length": 2, "max_epochs": 2})
    SetAsideEarlierRun(str(directory), resume).attach(engine)
    engine.run([0, 0], max_epochs=2)


def fill(directory, content: str) -> None:
    (directory / "checkpoints").mkdir(parents=True)
    (directory / "checkpoints" / "checkpoint_8.pt").write_text(content)
    (directory / "training.csv").write_text(content)
    (directory / "tensorboard").mkdir(exist_ok=True)


def names(directory) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_earlier_runs_are_numbered(tmp_path):
    for content in ("first", "second"):
        fill(tmp_path, content)
        run(tmp_path)
    assert names(tmp_path) == [
        f"earlier/{n}/{f}" for n in (1, 2) for f in ("checkpoints/checkpoint_8.pt", "training.csv")
    ]
    assert (tmp_path / "earlier/1/training.csv").read_text() == "first"
    assert (tmp_path / "earlier/2/training.csv").read_text() == "second"
    assert (tmp_path / "tensorboard").is_dir()


@pytest.mark.parametrize("arguments", [{"resume": True}, {"iteration": 2}])
def test_a_run_that_goes_on_keeps_its_files(tmp_path, arguments):
    fill(tmp_path, "mine")
    left = tmp_path / "checkpoints" / ".tmp.elsewhere.1.1.checkpoint_9.pt"
    left.touch()
    os.utime(left, (0, 0))
    run(tmp_path, **arguments)
    assert names(tmp_path) == ["checkpoints/checkpoint_8.pt", "training.csv"]


def test_an_empty_or_missing_directory_stays_so(tmp_path):
    run(tmp_path)
    run(tmp_path / "missing")
    assert not list(tmp_path.iterdir())


def test_other_processes_move_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    fill(tmp_path, "mine")
    run(tmp_path)
    assert (tmp_path / "training.csv").is_file()
