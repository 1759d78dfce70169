# SPDX-License-Identifier: Apache-2.0
"""A run that was stopped goes on as if nothing had happened."""

from __future__ import annotations

import logging
import random
import re
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.handlers import LrScheduleHandler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from custom.engines import PretextTrainer
from custom.handlers import CsvTable, RandomState, TrainingState

EPOCHS, EPOCH_LENGTH = 4, 3


class Network(nn.Module):
    """Draws from PyTorch's generator in each forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))

    def forward(self, batch: dict) -> dict:
        return {"y": self.layers(batch["x"])}


def disturb(batch: list) -> dict:
    """Draws from the generators of Python and NumPy, normal numbers too: they keep one in reserve."""
    noise = random.gauss(0, 0.1) + np.random.normal(0, 0.1)
    return {"x": batch[0] + noise, "index": torch.arange(len(batch[0]))}


class Run:
    """One process: everything is made anew, from a seed that a resumed process does not share."""

    def __init__(self, directory, seed: int = 0, epochs: int = EPOCHS, length: int = EPOCH_LENGTH, **arguments) -> None:
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        data = TensorDataset(torch.arange(6.0 * length).view(2 * length, 3) / 10)
        self.network = Network()
        self.optimizer = torch.optim.Adam(self.network.parameters(), 0.05)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, EPOCHS * EPOCH_LENGTH)
        objects = {"network": self.network, "optimizer": self.optimizer, "lr_scheduler": self.schedule}
        self.state = TrainingState(str(directory / "checkpoints"), objects, **arguments)
        self.trainer = PretextTrainer(
            device=torch.device("cpu"),
            max_epochs=epochs,
            train_data_loader=DataLoader(data, batch_size=2, shuffle=True),
            network=self.network,
            optimizer=self.optimizer,
            loss_function=lambda outputs, batch: {"loss": (outputs["y"] - 1).square().mean()},
            prepare_batch=lambda batch, *_: disturb(batch),
            train_handlers=[
                self.state,
                LrScheduleHandler(self.schedule, print_lr=False, epoch_level=False),
                CsvTable(str(directory / "training.csv")),
            ],
        )

    def stop_at(self, event) -> Run:
        """Raises KeyboardInterrupt, as SIGINT does, when the event fires; returns when the run has stopped."""

        def stop(engine):
            raise KeyboardInterrupt

        self.trainer.add_event_handler(event, stop)
        with pytest.raises(KeyboardInterrupt):
            self.trainer.run()
        return self

    def run(self) -> Run:
        self.trainer.run()
        return self

    def everything(self) -> dict:
        """All that has to be the same."""
        optimizer = self.optimizer.state_dict()
        return {
            "iteration": self.trainer.state.iteration,
            "epoch": self.trainer.state.epoch,
            "network": self.network.state_dict(),
            "optimizer": {i: dict(state) for i, state in optimizer["state"].items()},
            "groups": optimizer["param_groups"],
            "schedule": self.schedule.state_dict(),
            "random": RandomState().state_dict(),
        }


def same(a, b) -> bool:
    if torch.is_tensor(a):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(*pair) for pair in zip(a, b, strict=True))
    return a == b


def checkpoints(directory) -> list[str]:
    return sorted(path.name for path in (directory / "checkpoints").iterdir())


@pytest.fixture
def whole(tmp_path):
    """An uninterrupted run: its directory, and all that it ended with."""
    return tmp_path / "whole", Run(tmp_path / "whole").run().everything()


# in the middle of an epoch, at the end of one before the checkpoint is written, just after it, and before the first
@pytest.mark.parametrize(
    "event",
    [
        Events.ITERATION_COMPLETED(once=2),
        Events.ITERATION_COMPLETED(once=5),
        Events.ITERATION_STARTED(once=7),
        Events.EPOCH_COMPLETED(once=2),
        Events.EPOCH_STARTED(once=3),
        Events.ITERATION_COMPLETED(once=12),
    ],
)
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(tmp_path, whole, event):
    directory, expected = whole
    Run(tmp_path / "stopped").stop_at(event)
    if not (tmp_path / "stopped" / "checkpoints").is_dir() or not checkpoints(tmp_path / "stopped"):
        resumed = Run(tmp_path / "stopped", seed=0, resume=True).run()  # nothing to load: the same seed again
    else:
        resumed = Run(tmp_path / "stopped", seed=99, resume=True).run()
    found = resumed.everything()
    for name, value in expected.items():
        assert same(value, found[name]), name
    assert (tmp_path / "stopped" / "training.csv").read_bytes() == (directory / "training.csv").read_bytes()


def test_a_run_stopped_twice(tmp_path, whole):
    directory, expected = whole
    Run(tmp_path / "stopped").stop_at(Events.ITERATION_COMPLETED(once=5))
    Run(tmp_path / "stopped", seed=98, resume=True).stop_at(Events.ITERATION_COMPLETED(once=10))
    found = Run(tmp_path / "stopped", seed=99, resume=True).run().everything()
    assert same(expected, found)
    assert (tmp_path / "stopped" / "training.csv").read_bytes() == (directory / "training.csv").read_bytes()


def test_the_judge_sees_a_seed_that_is_not_restored(tmp_path, whole, monkeypatch):
    Run(tmp_path / "stopped").stop_at(Events.ITERATION_COMPLETED(once=5))
    monkeypatch.setattr(RandomState, "load_state_dict", lambda self, state: None)
    found = Run(tmp_path / "stopped", seed=99, resume=True).run().everything()
    assert not same(whole[1]["network"], found["network"])


def test_a_longer_plan_goes_on(tmp_path):
    Run(tmp_path, epochs=2).run()
    resumed = Run(tmp_path, seed=99, epochs=4, resume=True).run()
    assert resumed.trainer.state.iteration == 12 and resumed.trainer.state.epoch == 4
    assert checkpoints(tmp_path)[-1] == "checkpoint_9.pt" and "checkpoint_12.pt" in checkpoints(tmp_path)


def test_a_finished_run_has_nothing_left_to_do(tmp_path, whole):
    directory, expected = whole
    table = (directory / "training.csv").read_bytes()
    resumed = Run(directory, seed=99, resume=True)
    steps = []
    resumed.trainer.add_event_handler(Events.ITERATION_STARTED, lambda engine: steps.append(engine.state.iteration))
    found = resumed.run().everything()
    assert not steps and same(expected, found)
    assert (directory / "training.csv").read_bytes() == table


def test_without_resume_the_checkpoints_are_not_read(tmp_path, whole):
    again = Run(whole[0]).run().everything()
    assert same(whole[1], again)


def test_without_checkpoint_a_resumed_run_starts_at_the_beginning(tmp_path, whole, caplog):
    with caplog.at_level(logging.INFO, "custom.handlers.training_state"):
        found = Run(tmp_path / "new", resume=True).run().everything()
    assert same(whole[1], found) and "no checkpoint in" in caplog.text and "new" in caplog.text


@pytest.mark.parametrize(
    ("plan", "found"),
    [
        ({"epochs": 3}, r"checkpoint_12\.pt holds 12 iterations in epochs of 3, expected at most 9 in epochs of 3"),
        ({"length": 4}, r"checkpoint_12\.pt holds 12 iterations in epochs of 3, expected at most 16 in epochs of 4"),
    ],
)
def test_a_plan_that_does_not_fit_is_named(whole, plan, found):
    with pytest.raises(ValueError, match=found):
        Run(whole[0], resume=True, **plan).run()


def test_the_checkpoint_is_read_with_weights_only(whole):
    checkpoint = torch.load(whole[0] / "checkpoints" / "checkpoint_12.pt", weights_only=True)
    assert {"network", "optimizer", "lr_scheduler", "trainer", "scaler", "random_state"} == set(checkpoint)
    assert checkpoint["trainer"] == {"epoch_length": 3, "iteration": 12, "max_epochs": 4}
    assert same(checkpoint["network"], whole[1]["network"])


class Harmful:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_checkpoint_of_other_things_is_not_opened(tmp_path, capsys):
    (tmp_path / "checkpoints").mkdir()
    torch.save({"network": Harmful()}, tmp_path / "checkpoints" / "checkpoint_3.pt")
    with pytest.raises(ValueError, match=r"none of the checkpoints .*checkpoint_3\.pt.* can be read"):
        Run(tmp_path, resume=True).run()
    assert "executed" not in capsys.readouterr().out


def test_the_last_two_checkpoints_are_kept(whole):
    assert checkpoints(whole[0]) == ["checkpoint_12.pt", "checkpoint_9.pt"]


def test_the_last_two_checkpoints_are_kept_by_a_resumed_run(tmp_path):
    Run(tmp_path).stop_at(Events.ITERATION_COMPLETED(once=8))
    Run(tmp_path, resume=True).run()
    assert checkpoints(tmp_path) == ["checkpoint_12.pt", "checkpoint_9.pt"]


def test_a_checkpoint_that_someone_deleted_does_not_stop_the_run(tmp_path):
    run = Run(tmp_path)

    def delete(engine) -> None:
        if engine.state.epoch == 2:
            (tmp_path / "checkpoints" / "checkpoint_3.pt").unlink()

    run.trainer.add_event_handler(Events.EPOCH_STARTED, delete)
    run.run()
    assert checkpoints(tmp_path) == ["checkpoint_12.pt", "checkpoint_9.pt"]


def test_the_interval_counts_epochs(tmp_path):
    Run(tmp_path, interval=2).stop_at(Events.ITERATION_COMPLETED(once=11))
    assert checkpoints(tmp_path) == ["checkpoint_6.pt"]
    assert Run(tmp_path, seed=9, interval=2, resume=True).run().trainer.state.iteration == 12


def test_a_handler_that_is_attached_later_is_in_the_checkpoint(tmp_path):
    # a validation that changes the random state at the end of an epoch, as a shuffling loader does
    for name in ("whole", "stopped"):
        run = Run(tmp_path / name)
        run.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: torch.rand(7))
        run.run() if name == "whole" else run.stop_at(Events.ITERATION_COMPLETED(once=8))
    resumed = Run(tmp_path / "stopped", seed=9, resume=True)
    resumed.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: torch.rand(7))
    resumed.run()
    assert (tmp_path / "stopped" / "training.csv").read_bytes() == (tmp_path / "whole" / "training.csv").read_bytes()


def test_nothing_is_written_under_the_name_of_a_checkpoint_before_it_is_whole(tmp_path, monkeypatch):
    seen = []
    save = torch.save

    def failing(obj, file, **arguments):
        if len(seen) == 1:
            file.write(b"half of it")
            seen.append(checkpoints(tmp_path))
            raise KeyboardInterrupt
        seen.append(checkpoints(tmp_path))
        save(obj, file, **arguments)

    monkeypatch.setattr(torch, "save", failing)
    with pytest.raises(KeyboardInterrupt):
        Run(tmp_path).run()
    assert "checkpoint_6.pt" not in seen[1] and checkpoints(tmp_path) == ["checkpoint_3.pt"]


def test_other_files_are_no_checkpoints(tmp_path):
    Run(tmp_path).run()
    for name in ("tmpab12", "checkpoint_99.pt.tmp", "checkpoint_best.pt", "model_50.pt", "checkpoint_50_copy.pt"):
        (tmp_path / "checkpoints" / name).write_bytes(b"no checkpoint")
    found = TrainingState(str(tmp_path / "checkpoints"), {}).files()
    assert [(number, path.name) for number, path in found] == [(9, "checkpoint_9.pt"), (12, "checkpoint_12.pt")]
    assert TrainingState(str(tmp_path / "missing"), {}).files() == []


@pytest.mark.parametrize("damage", ["empty", "half", "another network"])
def test_a_checkpoint_that_cannot_be_loaded_is_named_or_passed_over(tmp_path, damage, caplog):
    Run(tmp_path).stop_at(Events.ITERATION_COMPLETED(once=8))
    newest = tmp_path / "checkpoints" / "checkpoint_6.pt"
    content = newest.read_bytes()
    if damage == "another network":
        torch.save(torch.load(newest) | {"network": {"other": torch.ones(1)}}, newest)
    else:
        newest.write_bytes(b"" if damage == "empty" else content[: len(content) // 2])
    resumed, said = Run(tmp_path, resume=True), ""
    try:
        resumed.run()
    except Exception as error:  # whatever it is, it has to say which file
        said = str(error)
    assert "checkpoint_6.pt" in said + caplog.text
    assert (
        said or resumed.trainer.state.iteration == EPOCHS * EPOCH_LENGTH
    )  # or the one before was taken, with a warning


def test_random_state_of_all_generators():
    random.gauss(0, 1), np.random.normal()  # one in reserve in both
    state = RandomState().state_dict()

    def draw() -> list:
        return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.normal(), torch.rand(3).tolist()]

    expected = draw()
    draw()
    RandomState().load_state_dict(state)
    assert draw() == expected


def test_the_scaler_is_restored_if_there_is_one(tmp_path):
    class Scaler(torch.amp.GradScaler):
        def __init__(self) -> None:
            super().__init__("cpu", init_scale=1024.0)

    first = Run(tmp_path)
    first.trainer.add_event_handler(Events.STARTED, lambda engine: setattr(engine, "scaler", Scaler()))
    first.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: engine.scaler.update(256.0))
    first.run()
    second = Run(tmp_path, resume=True, epochs=5)
    second.trainer.scaler = Scaler()  # MONAI makes it at the start of a run
    second.trainer.state.dataloader = None
    second.state.load(second.trainer)
    assert second.trainer.scaler.get_scale() == 256
    without = Run(tmp_path, resume=True, epochs=5)
    without.state.load(without.trainer)
    assert without.trainer.scaler is None


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 half a zip", b"\x80\x02}q\x00(X\x01", b"garbage" * 100, [1, 2], {"network": {}}, 3.5],
    ids=["empty", "zip", "pickle", "text", "list", "part", "number"],
)
def test_garbage_as_newest_checkpoint_falls_back_to_the_one_before(tmp_path, whole, content, caplog):
    run = Run(tmp_path).stop_at(Events.ITERATION_COMPLETED(once=8))
    newest = tmp_path / "checkpoints" / "checkpoint_6.pt"
    newest.write_bytes(content) if isinstance(content, bytes) else torch.save(content, newest)
    with caplog.at_level(logging.WARNING):
        run = Run(tmp_path, seed=1, resume=True).run()
    assert f"cannot use {newest} (" in caplog.text
    assert same(run.everything(), whole[1])


def test_only_garbage_is_an_error_that_names_the_files(tmp_path):
    Run(tmp_path).stop_at(Events.ITERATION_COMPLETED(once=8))
    for path in (tmp_path / "checkpoints").glob("*.pt"):
        torch.save([1], path)
    with pytest.raises(ValueError, match="none of the checkpoints .*checkpoint_6.pt.*checkpoint_3.pt.* can be read"):
        Run(tmp_path, resume=True).run()


def test_a_full_disk_names_the_checkpoint_and_leaves_the_newest(tmp_path):
    """torch wrote into the file itself and said no more than "basic_ios::clear"."""
    Run(tmp_path, epochs=2).trainer.run()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(OSError, match=r"checkpoint_9\.pt: the checkpoint cannot be written \(File too large\)"):
            Run(tmp_path, epochs=3, resume=True).trainer.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["checkpoint_6.pt"]


def resume_with_own_folder(rank: int, folder: str) -> None:
    """Only the first process has a checkpoint, as the node that wrote it; writes the error."""
    directory = Path(folder) / str(rank)
    directory.mkdir()
    if rank == 0:
        (directory / "checkpoint_6.pt").touch()
    try:
        TrainingState(str(directory), {}, resume=True).check_seen_by_all()
    except ValueError as error:
        (directory / "error").write_text(str(error))


def test_nodes_that_see_other_checkpoints_do_not_resume(in_two_processes, tmp_path):
    assert in_two_processes(resume_with_own_folder) == [0, 0]
    for rank in "01":
        assert re.search(
            r"iterations \[6, 0\] .* output_dir that all nodes share", (tmp_path / rank / "error").read_text()
        )
