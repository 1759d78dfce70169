# SPDX-License-Identifier: Apache-2.0
"""Runs of gvsl_pretrain: the default one, paper.json for 200 iterations, and two processes on one GPU."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

from benchmarks.bundles import workflow
from benchmarks.machine import machine
from benchmarks.step_time import measure_waiting, parsed_config
from custom.figures import read_table
from custom.files import write_json
from custom.running import run_tool

TINY = {"patch_size": [16, 16, 16], "channels": [8, 16], "spacing": [1.0, 1.0, 1.0], "num_workers": 0}
LENGTH = {"max_epochs": 1, "val_interval": 1}


def default(output: str, tiny: bool = False) -> None:
    """train.json from the beginning, with the making of the phantoms and without figures: seconds and last measures."""
    folder = Path(output).parent
    overrides = {"output_dir": str(folder / "output"), "figures": False, **_tiny(folder, tiny)}
    start = time.perf_counter()
    workflow("gvsl_pretrain", ["train.json"], overrides | ({"iterations_per_epoch": 2} | LENGTH if tiny else {})).run()
    seconds = round(time.perf_counter() - start, 1)
    write_json(Path(output), {"seconds": seconds, "last_row": _last_row(folder / "output"), **machine()})


def paper(output: str, tiny: bool = False, iterations: int = 200) -> None:
    """paper.json on phantoms: steps per second, and the share of the time in which the GPU waits for volumes."""
    folder = Path(output).parent
    length = {"iterations_per_epoch": 2 if tiny else iterations}
    overrides = {"cache_dir": str(folder / "cache"), **length, **_tiny(folder, tiny)}
    parser = parsed_config(overrides, ("paper.json",))
    write_json(Path(output), {**measure_waiting(parser, seconds=60), **machine()})


def processes(output: str, tiny: bool = False) -> None:
    """A process of torchrun, of 20 steps of train.json. NCCL wants a GPU for each process; with fewer, gloo is used."""
    folder, count = Path(output).parent, torch.cuda.device_count()
    backend = "nccl" if count >= int(os.environ["WORLD_SIZE"]) else "gloo"
    device = f"cuda:{int(os.environ['LOCAL_RANK']) % count}" if count else "cpu"
    overrides = {"backend": backend, "device": device, "output_dir": str(folder / "output"), "figures": False}
    overrides |= {"iterations_per_epoch": 2 if tiny else 20, **LENGTH, **_tiny(folder, tiny)}
    start = time.perf_counter()
    run = workflow("gvsl_pretrain", ["train.json", "multi_gpu_train.json"], overrides)
    is_first = torch.distributed.get_rank() == 0
    run.run()
    run.finalize()
    if is_first:
        seconds = round(time.perf_counter() - start, 1)
        content = {"backend": backend, "device": device, "seconds": seconds, "last_row": _last_row(folder / "output")}
        write_json(Path(output), content)


def _tiny(folder: Path, tiny: bool) -> dict[str, Any]:
    """Overrides for tiny volumes of noise, which are written; {} if not `tiny`."""
    if not tiny:
        return {}
    volumes = folder / "volumes"
    volumes.mkdir(parents=True, exist_ok=True)
    for subject in range(6):
        noise = np.random.default_rng(subject).normal(0, 300, (20, 20, 20)).astype(np.int16)
        path = volumes / f"{subject}_{os.getpid()}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(noise, np.eye(4)), path)
        path.replace(volumes / f"{subject}.nii.gz")  # another process may be reading it
    return TINY | {"dataset_dir": str(volumes)}


def _last_row(folder: Path) -> dict[str, float]:
    """The last row of validation.csv, or of training.csv."""
    tables = [path for path in (folder / "validation.csv", folder / "training.csv") if path.is_file()]
    return {name: float(values[-1]) for name, values in read_table(tables[0]).items()}


if __name__ == "__main__":
    run_tool({"default": default, "paper": paper, "processes": processes})
