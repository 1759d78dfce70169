# SPDX-License-Identifier: Apache-2.0
"""Runs cells side by side: each leaves one JSON, is never measured twice, and a killed run loses none that is done."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import IO, Any

import torch
from machine import machine, reset_peak_memory


@dataclass(frozen=True)
class Cell:
    """One measurement.

    Args:
        path: of its JSON. kind: cells of one kind take about as long. settings: what it is measured with; stands in the
            JSON. measure: returns what is to be stored; can be pickled. log: takes what the measurement prints.
    """

    path: Path
    kind: str
    settings: dict[str, Any]
    measure: Callable[[], dict[str, Any]]
    log: Path


class Progress:
    """Says which cells are done and about how long the others will take.

    Args:
        planned: how many cells of each kind there will be. workers: measured side by side.
    """

    def __init__(self, planned: Counter[str], workers: int) -> None:
        self.left, self.total, self.workers = Counter(planned), planned.total(), workers
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def done(self, cell: Cell, result: dict[str, Any], measured: bool) -> None:
        self.left[cell.kind] -= 1
        self.seconds[cell.kind].append(result["seconds"])
        if measured:
            place = f"{self.total - self.left.total()} of {self.total}"
            print(
                f"{place}: {cell.path.stem} of {cell.path.parent.name}, {result['seconds']:.0f} s; {self}", flush=True
            )

    def __str__(self) -> str:
        known = sum(number * median(self.seconds[kind]) for kind, number in self.left.items() if self.seconds[kind])
        unknown = sum(number for kind, number in self.left.items() if not self.seconds[kind])
        text = f"about {known / self.workers / 60:.0f} minutes left"
        return text + (f" and {unknown} cells of kinds not yet timed" if unknown else "")


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that measure cells side by side, each with its GPU or its share of the cores."""
    context = multiprocessing.get_context("spawn")
    places = context.Queue()
    for place in range(workers):
        places.put(place)
    with ProcessPoolExecutor(workers, context, start_worker, (places, workers)) as pool:
        yield pool


def run_cells(cells: Iterable[Cell], pool: ProcessPoolExecutor, progress: Progress) -> None:
    """Measures the cells that have no file yet.

    Raises:
        ValueError: a file was made from other settings; names it and what differs.
        RuntimeError: measurements failed; names each, its error and its log. The others have been measured.
    """
    unique = {cell.path: cell for cell in cells}
    for path, cell in unique.items():
        if path.is_file():
            progress.done(cell, read_cell(cell), measured=False)
    futures = {pool.submit(measure_cell, cell): cell for path, cell in unique.items() if not path.is_file()}
    failed = []
    for future in as_completed(futures):
        cell = futures[future]
        if error := future.exception():
            failed.append(f"{cell.path}: {type(error).__name__}: {error} (log: {cell.log})")
            print(f"failed: {failed[-1]}", flush=True)
        else:
            progress.done(cell, future.result(), measured=True)
    if failed:
        raise RuntimeError("cells failed, the others are measured:\n  " + "\n  ".join(failed))


def default_workers() -> int:
    """One for each GPU, else for each core, eight at most."""
    return torch.cuda.device_count() or min(os.cpu_count() or 1, 8)


def start_worker(places: Any, workers: int) -> None:
    """Gives a process its GPU or its share of the cores, and ends it when its parent is gone."""
    place, devices = places.get(), torch.cuda.device_count()
    if devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(place % devices)
    else:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def read_cell(cell: Cell) -> dict[str, Any]:
    """The stored result.

    Raises:
        ValueError: it was measured with other settings.
    """
    result, settings = json.loads(cell.path.read_text(encoding="utf-8")), plain(cell.settings)
    different = sorted(name for name in settings if result["settings"].get(name) != settings[name])
    if different:
        raise ValueError(f"{cell.path} was measured with other {different}: move it away to measure it again")
    return result


def measure_cell(cell: Cell) -> dict[str, Any]:
    """Measures and stores a cell; what it prints goes to its log. One that another run is measuring is waited for."""
    cell.log.parent.mkdir(parents=True, exist_ok=True)
    with cell.log.open("a", encoding="utf-8") as log, locked(log):
        if cell.path.is_file():
            return read_cell(cell)
        log.truncate(0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        reset_peak_memory()
        start = time.perf_counter()
        measured = cell.measure()
        seconds = round(time.perf_counter() - start, 1)
        result = {"settings": plain(cell.settings), **plain(measured), "seconds": seconds, **machine()}
        cell.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = cell.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, cell.path)
    return result


@contextmanager
def locked(file: IO[str]) -> Iterator[None]:
    """Holds the lock of a file, which ends with the process however that ends."""
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def plain(content: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives it back."""
    return json.loads(json.dumps(content))
