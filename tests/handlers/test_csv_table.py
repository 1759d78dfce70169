# SPDX-License-Identifier: Apache-2.0
"""Tables: what a row holds, what a killed run leaves behind."""

from __future__ import annotations

import csv
import resource

import pytest
import torch
from ignite.engine import Engine, Events

from custom.handlers import CsvTable


def train(path, iterations: int = 6, seed: int = 0, resume_at: int = 0, stop_at: int | None = None) -> None:
    """A trainer whose output depends on seed and iteration; `stop_at` kills it after that many iterations."""

    def step(engine, batch):
        if engine.state.iteration - 1 == stop_at:
            raise KeyboardInterrupt
        value = torch.rand(1, generator=torch.Generator().manual_seed(seed + engine.state.iteration)).item()
        return {"loss": value, "registration": value / 3}

    trainer = Engine(step)
    if resume_at:
        trainer.load_state_dict({"iteration": resume_at, "epoch_length": 2, "max_epochs": iterations // 2})
    CsvTable(str(path)).attach(trainer)
    try:
        trainer.run([0, 0], max_epochs=iterations // 2)
    except KeyboardInterrupt:
        assert stop_at is not None


def read(path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_per_iteration(tmp_path):
    path = tmp_path / "new" / "training.csv"
    train(path)
    rows = read(path)
    assert [row["iteration"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert list(rows[0]) == ["iteration", "loss", "registration"]
    expected = torch.rand(1, generator=torch.Generator().manual_seed(3)).item()
    assert float(rows[2]["loss"]) == pytest.approx(expected, rel=1e-8)


def test_nine_digits_tell_any_two_float32_apart(tmp_path):
    table = CsvTable(str(tmp_path / "t.csv"))
    value = torch.rand(500, generator=torch.Generator().manual_seed(0)) * 10.0 ** torch.arange(-10, 10).repeat(25)
    neighbour = torch.nextafter(value, value + 1)
    for iteration, pair in enumerate(zip(value, neighbour, strict=True)):
        table.append(iteration, {"a": pair[0].item(), "b": pair[1].item()})
    for row, a, b in zip(read(tmp_path / "t.csv"), value, neighbour, strict=True):
        assert torch.tensor(float(row["a"])) == a and torch.tensor(float(row["b"])) == b


def test_two_runs_of_one_seed_give_the_same_bytes_and_another_seed_does_not(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(tmp_path / name, seed=seed)
    first, second, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == second != other
    assert b"\r" not in first


def test_a_new_run_starts_a_new_table(tmp_path):
    path = tmp_path / "training.csv"
    path.write_text("iteration,other\n1,5\n9,5\n")
    train(path)
    assert list(read(path)[0]) == ["iteration", "loss", "registration"] and len(read(path)) == 6


@pytest.mark.parametrize("stop_at", [2, 3, 4, 5])
def test_a_killed_and_resumed_run_gives_the_bytes_of_an_uninterrupted_one(tmp_path, stop_at):
    train(tmp_path / "whole")
    train(tmp_path / "killed", stop_at=stop_at)
    train(tmp_path / "killed", resume_at=2)  # the checkpoint after the first epoch
    assert (tmp_path / "killed").read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("cut", [1, 3, 12])
def test_a_row_that_was_cut_short_is_dropped(tmp_path, cut):
    train(tmp_path / "whole")
    train(tmp_path / "killed", stop_at=5)
    content = (tmp_path / "killed").read_bytes()
    (tmp_path / "killed").write_bytes(content[:-cut])
    train(tmp_path / "killed", resume_at=4)
    assert (tmp_path / "killed").read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("content", ["", "iteration,lo"])
def test_a_header_that_was_cut_short_is_no_header(tmp_path, content):
    path = tmp_path / "validation.csv"
    path.write_text(content)
    table = CsvTable(str(path), evaluator=Engine(lambda engine, batch: None))
    table.drop_after(4)
    table.append(6, {"loss": 0.5})
    assert path.read_text() == "iteration,loss\n6,0.5\n"


@pytest.mark.parametrize(
    "content", [None, "", "iteration,loss\n", "iteration,loss\n1,0.5\n", "iteration,loss\n5,0.5\n"]
)
def test_a_run_does_not_resume_without_its_rows(tmp_path, content):
    path = tmp_path / "training.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=rf"{path} has [01] rows up to iteration 4, .*, expected one for each"):
        CsvTable(str(path)).drop_after(4)


def test_a_damaged_row_is_named(tmp_path):
    path = tmp_path / "training.csv"
    path.write_text("iteration,loss\nabc\n")
    with pytest.raises(ValueError, match=f"{path} has a damaged row"):
        CsvTable(str(path)).drop_after(1)


@pytest.mark.parametrize("values", [{"b": 2, "a": 1}, {"a": 1}, {"a": 1, "b": 2, "c": 3}, {"a": 1, "c": 3}])
def test_values_with_other_names_than_the_header_are_an_error(tmp_path, values):
    table = CsvTable(str(tmp_path / "t.csv"))
    table.append(1, {"a": 1, "b": 2})
    with pytest.raises(ValueError, match="t.csv"):
        table.append(2, values)
        if list(values) == ["b", "a"] and read(tmp_path / "t.csv")[1] == {"iteration": "2", "a": "1", "b": "2"}:
            raise ValueError("sorting them into t.csv is as good")


def test_rows_of_an_evaluator_carry_the_iteration_of_the_trainer(tmp_path):
    trainer = Engine(lambda engine, batch: {"loss": 1.0})
    evaluator = Engine(lambda engine, batch: None)
    evaluator.add_event_handler(Events.COMPLETED, lambda e: e.state.metrics.update(dice=trainer.state.iteration / 8))
    # the metric is set before the row is written: handlers run in order
    CsvTable(str(tmp_path / "validation.csv"), evaluator).attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: evaluator.run([0, 0, 0]))
    trainer.run([0, 0], max_epochs=2)
    assert read(tmp_path / "validation.csv") == [{"iteration": "2", "dice": "0.25"}, {"iteration": "4", "dice": "0.5"}]


def test_resuming_drops_later_rows_of_an_evaluator(tmp_path):
    path = tmp_path / "validation.csv"
    path.write_text("iteration,dice\n2,0.25\n4,0.5\n6,0.7\n")
    trainer = Engine(lambda engine, batch: {})
    trainer.load_state_dict({"iteration": 4, "epoch_length": 2, "max_epochs": 2})
    table = CsvTable(str(path), Engine(lambda engine, batch: None))
    table.drop_after(4)
    assert path.read_text() == "iteration,dice\n2,0.25\n4,0.5\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["validation.csv"]  # nothing temporary is left


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    train(tmp_path / "training.csv")
    assert not (tmp_path / "training.csv").exists()


def test_a_full_disk_names_the_table(tmp_path):
    table = CsvTable(str(tmp_path / "a.csv"))
    table.append(1, {"loss": 0.5})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "a.csv").stat().st_size, hard))
    try:
        with pytest.raises(OSError, match=r"a\.csv: a row of the table cannot be written \(File too large\)"):
            table.append(2, {"loss": 0.4})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [row["iteration"] for row in read(tmp_path / "a.csv")] == ["1"]


def test_a_folder_that_cannot_be_made_names_the_table(tmp_path):
    (tmp_path / "file").write_text("")
    table = CsvTable(str(tmp_path / "file" / "a.csv"))
    with pytest.raises(OSError, match=r"a\.csv: a row of the table cannot be written"):
        table.append(1, {"loss": 0.5})
