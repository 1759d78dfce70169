# SPDX-License-Identifier: Apache-2.0
"""Many calls of one function in parallel processes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_all_start_methods, get_context, parent_process
from multiprocessing.connection import wait
from typing import Any

import torch


def in_processes(
    function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], workers: int
) -> Iterator[tuple[int, Any]]:
    """Call function(*task) for every task.

    Processes are forked where the system can do so: a spawned process imports the caller's script and would start its
    work once more. The processes end when this process is killed.

    Args:
        function: a function that processes can import.
        tasks: the arguments of each call.
        workers: number of processes; below two, or for a single task, this process makes the calls.

    Yields:
        (index of the task, result) in the order in which the calls end.
    """
    if workers < 2 or len(tasks) < 2:
        yield from ((index, function(*task)) for index, task in enumerate(tasks))
        return
    context = get_context("fork" if "fork" in get_all_start_methods() else "spawn")
    pool = ProcessPoolExecutor(min(workers, len(tasks)), context, _begin_worker)
    try:
        submitted = {pool.submit(function, *task): index for index, task in enumerate(tasks)}
        for done in as_completed(submitted):
            yield submitted[done], done.result()
    finally:  # after an error or an interrupt, calls that have not begun are not made
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    """Use one thread of torch, because a forked process has no other threads and would wait for them; end with the
    parent, which a worker of ProcessPoolExecutor would outlive.
    """
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
