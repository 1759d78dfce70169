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
from collections.abc import Callable, Iterable, Iterator, Sequence
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
        makes: folder of the weights that it leaves. needs: one that another cell left.
    """

    path: Path
    kind: str
    settings: dict[str, Any]
    measure: Callable[[], dict[str, Any]]
    log: Path
    makes: Path | None = None
    needs: Path | None = None


class Progress:
    """Says which cells are done and about how long the others will take.

    Args:
        planned: how many cells of each kind there will be. workers: measured side by side.
    """

    def __init__(self, planned: Counter[str], workers: int) -> None:
        self.left, self.total, self.workers = Counter(planned), planned.total(), workers
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def add(self, cells: Sequence[Cell]) -> None:
        """More than were planned."""
        self.left.update(cell.kind for cell in cells)
        self.total += len(cells)

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


def run_cells(
    cells: Iterable[Cell], pool: ProcessPoolExecutor, progress: Progress, before: Iterable[Cell] = ()
) -> None:
    """Measures the cells that have no file yet.

    Args:
        before: cells that have been measured. Where these need weights that are gone, as in a new clone, those of
            `before` that made them run again first.

    Raises:
        ValueError: a file was made from other settings; names it and what differs.
        RuntimeError: measurements failed; names each, its error and its log. The others have been measured.
    """
    unique = {cell.path: cell for cell in cells}
    for path, cell in unique.items():
        if path.is_file():
            progress.done(cell, read_cell(cell), measured=False)
    missing = [cell for path, cell in unique.items() if not path.is_file()]
    makers = {cell.makes: cell for cell in before if cell.makes}
    for lost in lost_makers(missing, makers):
        progress.add(lost)
        run_side_by_side(make_again, lost, pool, progress)
    run_side_by_side(measure_cell, missing, pool, progress)


def lost_makers(cells: Iterable[Cell], makers: dict[Path, Cell]) -> list[list[Cell]]:
    """The cells that must run again for these to find their weights; lists, each needing those before."""
    needed = {cell.needs for cell in cells if cell.needs in makers and is_gone(cell.needs)}
    lost = [makers[folder] for folder in sorted(needed)]
    return [*lost_makers(lost, makers), lost] if lost else []


def run_side_by_side(
    run: Callable[[Cell], dict[str, Any]], cells: list[Cell], pool: ProcessPoolExecutor, progress: Progress
) -> None:
    """Runs cells; raises RuntimeError as `run_cells` does."""
    futures = {pool.submit(run, cell): cell for cell in cells}
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
    return torch.cuda.device_count() or min(cores(), 8)


def cores() -> int:
    """Those that this process may use, fewer than the machine's under taskset or a cluster's scheduler."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_worker(places: Any, workers: int) -> None:
    """Gives a process its GPU or its share of the cores, and ends it when its parent is gone."""
    place, devices = places.get(), torch.cuda.device_count()
    if devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(place % devices)
    else:
        torch.set_num_threads(max(1, cores() // workers))
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
    with locked_log(cell) as log:
        if cell.path.is_file():
            return read_cell(cell)
        reset_peak_memory()
        measured, seconds = timed(cell, log)
        result = {"settings": plain(cell.settings), **plain(measured), "seconds": seconds, **machine()}
        cell.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = cell.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, cell.path)
    return result


def make_again(cell: Cell) -> dict[str, Any]:
    """Leaves a cell's weights once more. Its file stays: others have been measured with what it tells of."""
    with locked_log(cell) as log:
        if not is_gone(cell.makes):
            return read_cell(cell)
        marker = unfinished(cell.makes)
        marker.touch()
        _, seconds = timed(cell, log)
        marker.unlink()
    return read_cell(cell) | {"seconds": seconds}


def is_gone(weights: Path) -> bool:
    """Whether a folder of weights is not there, or was being made again when a run was killed."""
    return not weights.is_dir() or unfinished(weights).is_file()


def unfinished(weights: Path) -> Path:
    """Lies beside a folder of weights that is being made again."""
    return weights.with_name(f"{weights.name}.unfinished")


def timed(cell: Cell, log: IO[str]) -> tuple[dict[str, Any], float]:
    """What a cell's measurement returns, and its seconds; what it prints goes to the log."""
    log.truncate(0)
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    start = time.perf_counter()
    measured = cell.measure()
    return measured, round(time.perf_counter() - start, 1)


@contextmanager
def locked_log(cell: Cell) -> Iterator[IO[str]]:
    """A cell's log, once no other run measures the cell."""
    cell.log.parent.mkdir(parents=True, exist_ok=True)
    with cell.log.open("a", encoding="utf-8") as log, locked(log):
        yield log


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
