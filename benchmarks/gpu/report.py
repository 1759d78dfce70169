# SPDX-License-Identifier: Apache-2.0
"""Runs the parts one after the other and writes one JSON file, anew after each part."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch

from benchmarks.bundles import BENCHMARKS
from benchmarks.machine import machine
from custom.files import write_json
from custom.running.arguments import listed

from .parts import Part, parts, run_part


def report(
    output: str = str(BENCHMARKS / "results" / "gpu.json"),
    only: str | tuple[str, ...] = (),
    minutes: float = 7.8,
    tiny: bool = False,
    work: str | None = None,
) -> None:
    """Measures everything that needs a GPU and writes it to one file.

    Args:
        output: the JSON file.
        only: names of parts, separated by commas; all by default.
        minutes: after which no part begins and the running one is stopped.
        tiny: tiny sizes, for a test on a CPU; the numbers say nothing.
        work: folder for logs and for what the runs write; by default a temporary one, which is removed.

    Raises:
        ValueError: there is no GPU, and not `tiny`; or a name in `only` is not that of a part.
    """
    cuda = torch.cuda.is_available()
    if not (cuda or tiny):
        raise ValueError("torch finds no CUDA device, expected one (tiny=True tries the command on a CPU)")
    chosen = _chosen(only, list(parts(tiny, cuda)))
    end = time.monotonic() + 60 * minutes
    content = {"command": "python -m benchmarks.gpu" + " --tiny" * tiny, **machine(), "cuda": torch.version.cuda}
    content["parts"] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for part in chosen:
            folder = Path(work or temporary) / part.name.replace(" ", "_")
            found = content["parts"][part.name] = run_part(part, folder, end - time.monotonic())
            print(f"{part.name}: {found['status']}, {found['seconds']:.0f} s", flush=True)
            write_json(Path(output), content, "the measurements on a GPU")


def _chosen(only: str | tuple[str, ...], every: list[Part]) -> list[Part]:
    names = listed(only)
    known = [part.name for part in every]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"only holds {unknown}, expected some of {known}")
    return [part for part in every if part.name in names or not names]
