# SPDX-License-Identifier: Apache-2.0
"""How the tests run a bundle: in this process, or as the command that a user types."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ignite.engine import Engine, Events
from monai.bundle import ConfigWorkflow

ROOT = Path(__file__).resolve().parents[2]


def workflow(bundle: Path, files: Sequence[str], kind: str, overrides: dict[str, Any]) -> ConfigWorkflow:
    """An initialised workflow of a bundle's config files."""
    configs = bundle / "configs"
    built = ConfigWorkflow(
        [str(configs / name) for name in files],
        str(configs / "metadata.json"),
        logging_file=False,
        workflow_type=kind,
        **overrides,
    )
    built.initialize()
    return built


def command(bundle: Path, files: Sequence[str], overrides: dict[str, Any], processes: int = 1) -> list[str]:
    """The command line of a run, with torchrun for several processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    names = "[" + ",".join(f"'{bundle / 'configs' / name}'" for name in files) + "]"
    arguments = [part for name, value in overrides.items() for part in (f"--{name}", str(value))]
    return [sys.executable, *launcher, "-m", "monai.bundle", "run", "--config_file", names, *arguments]


def run(arguments: Sequence[str], folder: Path = ROOT) -> None:
    """Runs a command to its end, with one thread a process and the repository importable."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]


def interrupt(bundle: Path, overrides: dict[str, Any], iterations: int) -> None:
    """Trains in this process and stops, as by Ctrl-C, after so many iterations."""
    built = workflow(bundle, ["train.json"], "train", overrides)
    more = iter(range(iterations - 1))

    def stop(engine: Engine) -> None:
        if next(more, None) is None:
            raise KeyboardInterrupt

    built.parser.get_parsed_content("train#trainer").add_event_handler(Events.ITERATION_COMPLETED, stop)
    with pytest.raises(KeyboardInterrupt):
        built.run()


def start(arguments: Sequence[str]) -> subprocess.Popen:
    """Starts a command whose output is of no interest."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    quiet = subprocess.DEVNULL
    return subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=quiet, stderr=quiet)


def wait_for_lines(path: Path, count: int, process: subprocess.Popen) -> None:
    """Until the table has so many lines, or the process is over."""
    while process.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < count):
        time.sleep(0.01)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def chain(error: BaseException | None) -> str:
    """The messages of an error and of its causes; MONAI wraps the errors of components."""
    return "" if error is None else f"{error}\n{chain(error.__cause__)}"
