# SPDX-License-Identifier: Apache-2.0
"""Measures cells side by side. Each is measured once; a run that was killed goes on where it was."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import IO, Any

import torch

from benchmarks.machine import machine, reset_peak_memory

from .cells import Cell
from .results import append_result, read_results


class Progress:
    """Prints which cells are done and about how long the others will take.

    Args:
        planned: number of cells of each kind.
        workers: number of cells measured side by side.
    """

    def __init__(self, planned: Counter[str], workers: int) -> None:
        self.left, self.total, self.workers = Counter(planned), planned.total(), workers
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def add(self, cells: Sequence[Cell]) -> None:
        """Counts cells that were not planned."""
        self.left.update(cell.kind for cell in cells)
        self.total += len(cells)

    def done(self, cell: Cell, result: dict[str, Any], measured: bool) -> None:
        """Counts a cell as done, and prints it if it was measured now."""
        self.left[cell.kind] -= 1
        self.seconds[cell.kind].append(result["seconds"])
        if measured:
            count = f"{self.total - self.left.total()} of {self.total}"
            print(f"{count}: {cell}, {result['seconds']:.0f} s; {self}", flush=True)

    def __str__(self) -> str:
        known = sum(number * median(self.seconds[kind]) for kind, number in self.left.items() if self.seconds[kind])
        unknown = sum(number for kind, number in self.left.items() if not self.seconds[kind])
        text = f"about {known / self.workers / 60:.0f} minutes left"
        return text + (f" and {unknown} cells of kinds not yet timed" if unknown else "")


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that measure cells side by side, each with its GPU or its share of the cores."""
    context = multiprocessing.get_context("spawn")
    indices = context.Queue()
    for index in range(workers):
        indices.put(index)
    with ProcessPoolExecutor(workers, context, start_worker, (indices, workers)) as pool:
        yield pool


def run_cells(cells: Iterable[Cell], pool: Executor, progress: Progress, before: Iterable[Cell] = ()) -> None:
    """Measures the cells that have no result yet.

    Args:
        cells: do not need each other.
        pool: of `worker_pool` or `cluster_pool`.
        progress: is told of each cell that is done.
        before: cells that have results. If a cell needs weights of theirs that are gone, as in a new clone, the cell
            that made the weights runs again first.

    Raises:
        ValueError: a result was measured with other settings; the error names the cell and the settings.
        RuntimeError: measurements failed; the error names each cell, its error and its log. All others are measured.
    """
    unique = {cell.key: cell for cell in cells}
    results = {path: read_results(path) for path in {cell.results for cell in unique.values()}}
    missing = []
    for cell in unique.values():
        if result := result_of(cell, results[cell.results]):
            progress.done(cell, result, measured=False)
        else:
            missing.append(cell)
    makers = {cell.makes: cell for cell in before if cell.makes}
    for lost in lost_makers(missing, makers):
        progress.add(lost)
        run_side_by_side(make_again, lost, pool, progress)
    run_side_by_side(measure_cell, missing, pool, progress)


def lost_makers(cells: Iterable[Cell], makers: dict[Path, Cell]) -> list[list[Cell]]:
    """The cells that must run again because others need weights that are gone; each list needs the lists before it.

    Args:
        cells: need weights.
        makers: the cell that makes a folder of weights.
    """
    needed = {cell.needs for cell in cells if cell.needs in makers and is_gone(cell.needs)}
    lost = [makers[folder] for folder in sorted(needed)]
    return [*lost_makers(lost, makers), lost] if lost else []


def run_side_by_side(
    run: Callable[[Cell], dict[str, Any]], cells: list[Cell], pool: Executor, progress: Progress
) -> None:
    """Runs a function for each cell in the pool; raises RuntimeError as `run_cells` does."""
    futures = {pool.submit(run, cell): cell for cell in cells}
    failed = []
    for future in as_completed(futures):
        cell = futures[future]
        if error := future.exception():
            failed.append(f"{cell}: {type(error).__name__}: {error} (log: {cell.log})")
            print(f"failed: {failed[-1]}", flush=True)
        else:
            progress.done(cell, future.result(), measured=True)
    if failed:
        raise RuntimeError("cells failed, the others are measured:\n  " + "\n  ".join(failed))


def default_workers() -> int:
    """The number of GPUs or, without any, of cores, eight at most."""
    return torch.cuda.device_count() or min(cores(), 8)


def cores() -> int:
    """The number of cores that this process may use: under taskset or a scheduler fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_worker(indices: Any, workers: int) -> None:
    """Gives a process its GPU or its share of the cores, and ends it when its parent is gone."""
    index, devices = indices.get(), torch.cuda.device_count()
    if devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(index % devices)
    else:
        torch.set_num_threads(max(1, cores() // workers))
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def result_of(cell: Cell, results: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """The result of a cell among those of its task, or None.

    Raises:
        ValueError: it was measured with other settings.
    """
    if cell.name not in results:
        return None
    result, settings = results[cell.name], plain(cell.settings)
    different = sorted(name for name in settings if result["settings"].get(name) != settings[name])
    if different:
        raise ValueError(
            f"{cell.results}: {cell.name} was measured with other {different}; delete its line to measure it again"
        )
    return result


def measure_cell(cell: Cell) -> dict[str, Any]:
    """Measures and stores a cell, or waits for another run that measures it. What it prints goes to its log."""
    with locked_log(cell) as log:
        if result := result_of(cell, read_results(cell.results)):
            return result
        reset_peak_memory()
        measured, seconds = timed(cell, log)
        result = {"settings": plain(cell.settings), **plain(measured), "seconds": seconds, **machine()}
        append_result(cell.results, cell.name, result)
    return result


def make_again(cell: Cell) -> dict[str, Any]:
    """Makes the weights of a cell once more. Its result stays, because others have been measured with its weights."""
    with locked_log(cell) as log:
        result = result_of(cell, read_results(cell.results))
        if not is_gone(cell.makes):
            return result
        marker = unfinished(cell.makes)
        marker.touch()
        _, seconds = timed(cell, log)
        marker.unlink()
    return result | {"seconds": seconds}


def is_gone(weights: Path) -> bool:
    """Whether a folder of weights is missing, or was being made again when a run was killed."""
    return not weights.is_dir() or unfinished(weights).is_file()


def unfinished(weights: Path) -> Path:
    """The marker file beside a folder of weights that is being made again."""
    return weights.with_name(f"{weights.name}.unfinished")


def timed(cell: Cell, log: IO[str]) -> tuple[dict[str, Any], float]:
    """What the measurement of a cell returns, and its seconds; what it prints goes to the log."""
    log.truncate(0)
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    start = time.perf_counter()
    measured = cell.measure()
    return measured, round(time.perf_counter() - start, 1)


@contextmanager
def locked_log(cell: Cell) -> Iterator[IO[str]]:
    """The log of a cell, as soon as no other run measures the cell. The lock ends with the process at the latest."""
    cell.log.parent.mkdir(parents=True, exist_ok=True)
    with cell.log.open("a", encoding="utf-8") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        try:
            yield log
        finally:
            fcntl.flock(log, fcntl.LOCK_UN)


def plain(content: dict[str, Any]) -> dict[str, Any]:
    """Content as it comes back from JSON: lists for tuples, text for keys."""
    return json.loads(json.dumps(content))
