# SPDX-License-Identifier: Apache-2.0
"""A run that is killed at any moment and resumed gives the tables and weights of one that was left alone."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import DEVNULL, Popen

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "bundles" / "gvsl_pretrain" / "configs" / "train.json"
TABLES = ("training.csv", "validation.csv")


class Runs:
    """The same command again and again, and a run of it that was left alone.

    Attributes: `whole`, its folder; `duration` and `startup`, its seconds in all and until the first row of its table.
    """

    def __init__(self, overrides: dict, folder: Path) -> None:
        self.overrides = overrides | {
            "channels": [16, 64],
            "max_epochs": 12,
            "iterations_per_epoch": 4,
            "val_interval": 4,
            "resume": True,
        }
        self.whole = folder / "whole"
        begun = time.monotonic()
        process = self.start(self.whole, workers=0)
        self.startup = self.wait(process, lambda: (self.whole / "training.csv").exists()) - begun
        self.duration = self.wait(process, lambda: False) - begun
        assert process.returncode == 0

    def start(self, output: Path, workers: int = 2, launcher: Sequence[str] = ("-m", "monai.bundle")) -> Popen:
        overrides = self.overrides | {"output_dir": output, "num_workers": workers}
        arguments = [part for name, value in overrides.items() for part in (f"--{name}", str(value))]
        return Popen(
            [sys.executable, *launcher, "run", "--config_file", str(CONFIG), *arguments],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=DEVNULL,
            stderr=DEVNULL,
        )

    @staticmethod
    def wait(process: Popen, condition: Callable[[], bool]) -> float:
        """The time at which the condition holds, or the process is over."""
        while process.poll() is None and not condition():
            time.sleep(0.01)
        return time.monotonic()

    def rows(self, output: Path) -> int:
        """Iterations in the table, at the least."""
        table = output / "training.csv"
        return max(table.read_bytes().count(b"\n") - 1, 0) if table.exists() else 0

    def finish(self, output: Path) -> None:
        """Resumes until the end and compares."""
        process = self.start(output)
        assert process.wait() == 0
        for name in TABLES:
            assert (output / name).read_bytes() == (self.whole / name).read_bytes(), name
        states = [torch.load(folder / "model.pt", weights_only=True) for folder in (output, self.whole)]
        assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


@pytest.fixture(scope="module")
def runs(tiny_overrides: dict, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The uninterrupted run is done."""
    return Runs(tiny_overrides, tmp_path_factory.mktemp("resume"))


@pytest.mark.slow
def test_killed_at_three_random_moments(runs: Runs, tmp_path: Path) -> None:
    seed = int(os.environ.get("KILL_SEED", random.SystemRandom().randrange(10**6)))
    draw, output, iterations = random.Random(seed), tmp_path / "killed", runs.rows(runs.whole)
    step = (runs.duration - runs.startup) / iterations
    print(f"KILL_SEED={seed}; left alone {runs.duration:.1f} s, {runs.startup:.1f} s of it until the first iteration")
    for rows in sorted(draw.sample(range(1, iterations - 4), 3)):  # with enough left for the last moment
        if draw.random() < 0.4:  # while it starts: imports, the data, the checkpoint
            rows, pause = 0, draw.uniform(0, runs.startup)
        else:
            pause = draw.uniform(0, 2 * step)
        process = runs.start(output)
        runs.wait(process, lambda rows=rows: runs.rows(output) >= rows)
        time.sleep(pause)
        process.kill()
        assert process.wait() == -signal.SIGKILL, "the run was over before it was killed"
        found = sorted(path.name for path in (output / "checkpoints").glob("*"))
        print(f"killed {pause:.2f} s after iteration {rows}, {runs.rows(output)} in the table, checkpoints {found}")
    runs.finish(output)


DIES_WHILE_WRITING = """
import io, os, runpy, signal, sys, torch
save, writes = torch.save, int(sys.argv.pop(1))

def dying_save(content, file, *arguments, **keywords):
    global writes
    writes -= "random_state" in content  # a checkpoint
    if writes:
        return save(content, file, *arguments, **keywords)
    save(content, whole := io.BytesIO())
    file.write(whole.getvalue()[: whole.tell() // 2])
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)

torch.save = dying_save
runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
def test_killed_while_a_checkpoint_is_written(runs: Runs, tmp_path: Path) -> None:
    output = tmp_path / "killed"
    for writes, complete in ((1, []), (4, ["checkpoint_12.pt"])):  # the oldest is removed before the next is written
        assert runs.start(output, launcher=["-c", DIES_WHILE_WRITING, str(writes)]).wait() == -signal.SIGKILL
        found = sorted(path.name for path in (output / "checkpoints").glob("checkpoint_*"))
        assert found == complete and runs.rows(output) == 4 * writes
    runs.finish(output)
