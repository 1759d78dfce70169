# SPDX-License-Identifier: Apache-2.0
"""The progress bar counts all iterations of the run and lets errors through."""

from __future__ import annotations

import pytest
from ignite.engine import Engine, Events

from custom.handlers import TrainingProgress


def make(step=lambda engine, batch: {"loss": 0.25, "fit": 1.5}) -> tuple[Engine, TrainingProgress]:
    engine, progress = Engine(step), TrainingProgress()
    progress.attach(engine)
    return engine, progress


def test_one_bar_over_all_epochs(capsys):
    engine, progress = make()
    engine.run([0, 1, 2], max_epochs=4)
    assert progress._bar.n == progress._bar.total == 12
    printed = capsys.readouterr().err
    assert "12/12" in printed and "loss=0.250" in printed and "fit=1.500" in printed
    assert progress._bar.disable or progress._bar.fp is not None


def test_a_resumed_run_starts_where_it_was(capsys):
    engine, progress = make()
    engine.load_state_dict({"iteration": 6, "epoch_length": 3, "max_epochs": 4})
    engine.run([0, 1, 2])
    assert progress._bar.initial == 6 and progress._bar.n == 12 and "12/12" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError, FloatingPointError, KeyboardInterrupt])
def test_errors_come_through(error):
    def step(engine, batch):
        if engine.state.iteration == 2:
            raise error("stop here")
        return {"loss": 1.0}

    engine, progress = make(step)
    with pytest.raises(error, match="stop here"):
        engine.run([0, 1, 2])
    assert progress._bar.n == 1


def test_an_error_before_the_first_step_comes_through():
    engine, _ = make()

    @engine.on(Events.STARTED)
    def fail(engine):
        raise ValueError("no checkpoint")

    with pytest.raises(ValueError, match="no checkpoint"):
        engine.run([0])


def test_other_processes_show_nothing(monkeypatch, capsys):
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    engine, progress = make()
    engine.run([0, 1, 2])
    assert progress._bar is None and not capsys.readouterr().err
