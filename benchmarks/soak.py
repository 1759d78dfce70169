# SPDX-License-Identifier: Apache-2.0
"""Memory and open files of a long training run: python -m benchmarks.soak --output benchmarks/results/soak.json

Trains gvsl_pretrain on phantoms with two loader workers and looks at all processes of the run again and again. Private
memory is what the system would get back if the process ended (the unique set size). It rises and falls by tens of MB,
because a picture needs memory while it is drawn; what is lost for ever raises the lowest value of each epoch. Left to
itself the allocator keeps 100 MB of a picture for an epoch or two, in which a loss of 5 MB would not be seen: here it
gives back every block of more than 64 KB at once. Linux only.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bundles import BUNDLES, ROOT
from custom.files import write_json
from custom.running import run_tool

from .machine import command, machine

PROC = Path("/proc")
PRIVATE = re.compile(r"^Private_(?:Clean|Dirty):\s+(\d+) kB$", re.MULTILINE)
EPOCH = 100  # iterations
GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}  # bytes, for glibc
SETTLED = 400  # iterations after which memory shall not grow
MOST_GROWTH = 5.0  # MB in 1000 iterations
Sample = tuple[int, float, int]  # iteration, private memory in MB, open files


def main(
    iterations: int = 2000, workers: int = 2, side: int = 16, every: int = 5, subjects: int = 6, output: str = ""
) -> None:
    """Measures, prints the result, and ends with an error if memory or open files grow.

    Args:
        iterations: of training, in epochs of 100 with validation, figures and a checkpoint after each; at least 600.
        workers: loader workers.
        side: of the cubic crop, in voxels.
        every: iterations between two looks at the processes.
        subjects: of the phantom cohort.
        output: file for the JSON.

    Raises:
        RuntimeError: the run failed.
        ValueError: there are fewer than two epochs after the first 400 iterations; or a process grows by more than 5 MB
            in 1000 iterations after the first 400, or has more open files in the last third than in the first
            (`growth`).
    """
    if iterations < SETTLED + 2 * EPOCH:
        raise ValueError(f"iterations is {iterations}, expected at least {SETTLED + 2 * EPOCH}")
    with tempfile.TemporaryDirectory() as folder:
        training = training_command(Path(folder), iterations, workers, side, subjects)
        with open(Path(folder, "log"), "wb") as log:
            environment = os.environ | GIVES_BACK
            process = subprocess.Popen(
                training, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            samples = watch(process, Path(folder, "output", "training.csv"), every)
        finally:
            stop(process)
        if process.returncode:
            raise RuntimeError(f"the run failed:\n{Path(folder, 'log').read_text(encoding='utf-8')[-2000:]}")
    measured = {name: growth(of_process) for name, of_process in samples.items()}
    result = {
        "benchmark": "soak",
        "command": command("soak"),
        "iterations": iterations,
        "workers": workers,
        "processes": measured,
        **machine(),
    }
    print(*(f"{name}: {values}" for name, values in measured.items()), sep="\n")
    if output:
        write_json(Path(output), result, "the result of the soak")
    check(measured)


def training_command(folder: Path, iterations: int, workers: int, side: int, subjects: int) -> list[str]:
    """The command of a run of gvsl_pretrain that writes below a folder."""
    overrides = {
        "output_dir": folder / "output",
        "dataset_dir": folder / "cohort",
        "cohort#root": folder / "cohort",
        "cohort#subjects": subjects,
        "channels": [8, 16],
        "patch_size": [side] * 3,
        "places": 128,  # of the contrast; those of train.json take most of the time
        "max_epochs": iterations // EPOCH,
        "iterations_per_epoch": EPOCH,
        "val_interval": 1,
        "validation_pairs": 2,
        "num_workers": workers,
    }
    arguments = [part for name, value in overrides.items() for part in (f"--{name}", str(value))]
    config = BUNDLES / "gvsl_pretrain" / "configs" / "train.json"
    return [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config), *arguments]


def watch(process: subprocess.Popen, table: Path, every: int) -> dict[str, list[Sample]]:
    """Samples of the run's processes until it ends: "main" and "worker 0", "worker 1", ...

    Args:
        process: the run.
        table: its training.csv, whose rows are counted.
        every: iterations between two samples.
    """
    samples: dict[str, list[Sample]] = defaultdict(list)
    names: dict[int, str] = {process.pid: "main"}
    wanted = every
    while process.poll() is None:
        time.sleep(0.02)
        done = table.read_bytes().count(b"\n") - 1 if table.is_file() else 0
        if done < wanted:
            continue
        for pid in family(process.pid):
            name = names.setdefault(pid, f"worker {len(names) - 1}")
            if (now := look(pid)) is not None:
                samples[name].append((done, *now))
        wanted = done + every
    return samples


def family(pid: int) -> list[int]:
    """A process and its children, oldest first."""
    children = [PROC / str(pid) / "task" / task / "children" for task in os.listdir(PROC / str(pid) / "task")]
    return [pid, *sorted(int(child) for path in children for child in path.read_text(encoding="utf-8").split())]


def look(pid: int) -> tuple[float, int] | None:
    """Private memory in MB and number of open files of a process, or None if it has ended."""
    try:
        memory = (PROC / str(pid) / "smaps_rollup").read_text(encoding="utf-8")
        return sum(map(int, PRIVATE.findall(memory))) / 1024, len(os.listdir(PROC / str(pid) / "fd"))
    except OSError:
        return None


def stop(process: subprocess.Popen) -> None:
    """Kills the process group of a run, with its loader workers, and waits for the run."""
    with suppress(ProcessLookupError):  # all have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def growth(samples: list[Sample]) -> dict[str, Any]:
    """What a process keeps after `SETTLED` iterations.

    Returns:
        "mb_per_1000_iterations", slope of the lowest private memory of each epoch; "private_mb", lowest and highest;
        "open_files", lowest and highest number in the first third, and in the last; "samples", their number. A batch
        that waits for the training has open files: the lowest number rises when the loader becomes faster, the highest
        one does not. A file that stays open raises both.

    Raises:
        ValueError: there are not three samples, of two epochs or more, after `SETTLED` iterations.
    """
    iterations, memory, files = np.array([sample for sample in samples if sample[0] > SETTLED]).reshape(-1, 3).T
    epochs, epoch_of = np.unique((iterations - 1) // EPOCH, return_inverse=True)
    if len(epochs) < 2 or len(iterations) < 3:
        raise ValueError(
            f"a process has {len(iterations)} samples of {len(epochs)} epochs after iteration {SETTLED}, expected at "
            "least 3 samples of 2 epochs"
        )
    lowest = [memory[epoch_of == epoch].min() for epoch in range(len(epochs))]
    slope = np.polyfit(epochs * EPOCH, lowest, 1)[0] * 1000
    third = len(files) // 3
    return {
        "samples": len(iterations),
        "mb_per_1000_iterations": round(float(slope), 2),
        "private_mb": [round(float(memory.min()), 1), round(float(memory.max()), 1)],
        "open_files": [[int(part.min()), int(part.max())] for part in (files[:third], files[-third:])],
    }


def keeps_files(first: list[int], last: list[int]) -> bool:
    """Whether both the lowest and the highest number of open files have risen."""
    return all(later > earlier for earlier, later in zip(first, last, strict=True))


def check(measured: dict[str, dict[str, Any]]) -> None:
    """Raises ValueError if a process grows or keeps files open."""
    growing = [
        f"{name} {values}"
        for name, values in measured.items()
        if values["mb_per_1000_iterations"] > MOST_GROWTH or keeps_files(*values["open_files"])
    ]
    if growing:
        raise ValueError(
            f"processes grow, expected at most {MOST_GROWTH:g} MB in 1000 iterations and no more open files: {growing}"
        )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what this process has started ends with it
    run_tool(main)
