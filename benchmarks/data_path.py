# SPDX-License-Identifier: Apache-2.0
"""The data path at the scale of the paper: planning a run over very many volumes, and a crop of a volume on disk.

python -m benchmarks.data_path --volumes 100000 --output benchmarks/results/data_path.json

Planning is what pre-training does before its first volume: list the folder, split it, draw validation pairs, check the
headers of the files that are not in the cache yet. The volumes are tiny files, because only their number matters. The
seconds of the processor are those that a free core would take. The crop is also measured with the whole volume read.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

from benchmarks.machine import command, machine, peak_memory
from custom.data import PairDataset
from custom.data.cache import VolumeCache
from custom.data.pretraining import pretraining_data
from custom.files import write_json
from custom.running import run_tool
from custom.transforms import CheckedLoadImaged, RandRelativeCropd

VALIDATION_SHARE, VALIDATION_PAIRS = 0.2, 8


@contextmanager
def seconds(measured: dict[str, dict[str, float]], name: str) -> Iterator[None]:
    """Stores the seconds of the block, of the clock and of the processor, under a name."""
    clock, processor = time.perf_counter(), time.process_time()
    yield
    spent = {"clock": time.perf_counter() - clock, "processor": time.process_time() - processor}
    measured[name] = {kind: round(value, 2) for kind, value in spent.items()}


def write_volumes(folder: Path, count: int) -> None:
    """Tiny compressed NIfTI files, all of the same content."""
    folder.mkdir()
    first = folder / "case_000000.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.arange(512, dtype=np.int16).reshape(8, 8, 8), np.eye(4)), first)
    content = first.read_bytes()
    for number in range(1, count):
        (folder / f"case_{number:06d}.nii.gz").write_bytes(content)


def measure_planning(folder: Path, count: int, header_only: bool) -> dict[str, Any]:
    """Seconds of each part of planning, and the peak memory of the process in GiB."""
    write_volumes(folder / "data", count)
    measured: dict[str, dict[str, float]] = {}
    with seconds(measured, "list, split and draw pairs"):
        data = pretraining_data(str(folder / "data"), None, VALIDATION_SHARE, VALIDATION_PAIRS)
    with seconds(measured, "check the training volumes"):
        cache = {"cache_dir": folder / "cache", "header_only": header_only}
        PairDataset(data["training"], CheckedLoadImaged("image"), None, seed=0, samples_per_epoch=1, **cache)
    whole = {kind: round(sum(part[kind] for part in measured.values()), 2) for kind in ("clock", "processor")}
    described = {"volumes": count, "header_only": header_only, "seconds": measured | {"whole": whole}}
    return described | {"peak_memory_gib": round(peak_memory() / 2**30, 2)}


def measure_crop(folder: Path, side: int, crop: int, repeats: int) -> dict[str, Any]:
    """Median and smallest milliseconds of a crop of a cached volume; "whole" reads all of the volume first."""
    path = folder / "volume.nii"
    array = np.random.default_rng(0).random((side, side, side), dtype=np.float32)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)
    cache = VolumeCache([{"image": str(path)}], CheckedLoadImaged("image"), cache_dir=folder / "crops")
    cache[0]
    (file,) = (folder / "crops").glob("*.pt")
    transform = RandRelativeCropd("image", crop)
    readers: dict[str, Callable[[], Any]] = {
        "mapped": lambda: cache[0],
        "whole": lambda: torch.load(file, weights_only=True),
    }
    measured = {}
    for name, read in readers.items():
        transform.set_random_state(seed=0)
        spent = []
        for _ in range(repeats):
            start = time.perf_counter()
            transform(read())
            spent.append(1000 * (time.perf_counter() - start))
        measured[name] = {"median": round(float(np.median(spent)), 2), "smallest": round(min(spent), 2)}
    return {"volume": [side] * 3, "crop": [crop] * 3, "repeats": repeats, "milliseconds": measured}


def main(
    volumes: int = 100_000,
    header_only: bool = True,
    side: int = 300,
    crop: int = 128,
    repeats: int = 30,
    output: str | None = None,
) -> None:
    """Measures and prints; with `output` also writes the JSON there.

    Args:
        volumes: number of files to plan with.
        header_only: check the headers only; otherwise also whether each file is complete.
        side: of the cubic volume that is cropped, in voxels.
        crop: its crop, in voxels.
        repeats: number of crops.
        output: file for the JSON.
    """
    with tempfile.TemporaryDirectory() as folder:
        planning = measure_planning(Path(folder), volumes, header_only)
        crops = measure_crop(Path(folder), side, crop, repeats)
    result = {
        "benchmark": "data_path",
        "command": command("data_path"),
        "planning": planning,
        "crop": crops,
        **machine(),
    }
    print(json.dumps(result, indent=2))
    if output:
        write_json(Path(output), result)


if __name__ == "__main__":
    run_tool(main)
