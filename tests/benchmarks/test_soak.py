# SPDX-License-Identifier: Apache-2.0
"""The soak sees growing memory, open files and worker processes."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import signal
import subprocess
import time

import pytest

from benchmarks import soak


def test_slope_of_what_stays_after_400_iterations() -> None:
    """Memory and files that a process gives back within an epoch do not count."""
    samples = [
        (n, (300.0 - n if n <= 400 else 200 + 0.002 * n) + n % 100 * n / 1000, 12 + n % 100 // 20)
        for n in range(0, 2001, 20)
    ]
    measured = soak.growth(samples)
    assert measured["mb_per_1000_iterations"] == pytest.approx(2.0)
    assert measured["open_files"] == [[12, 16], [12, 16]] and measured["samples"] == 80
    soak.check({"main": measured})


@pytest.mark.parametrize("per_iteration, files", [(0.006, 12), (0.0, 13)])
def test_growing_memory_or_files_are_refused(per_iteration: float, files: int) -> None:
    samples = [(n, 200 + per_iteration * n, 12 if n < 1000 else files) for n in range(0, 2001, 100)]
    with pytest.raises(ValueError, match="worker 1"):
        soak.check({"worker 1": soak.growth(samples)})


def test_a_fuller_loader_is_no_leak() -> None:
    """Each waiting batch has open files; there are never more than the loader may hold."""
    assert not soak.keeps_files([20, 28], [27, 28])
    assert not soak.keeps_files([20, 28], [20, 29])  # for a moment
    assert soak.keeps_files([20, 28], [21, 29])


def test_private_memory_and_files_of_this_process() -> None:
    memory, files = soak.look(os.getpid())
    held = mmap.mmap(-1, 50 * 2**20)  # never memory that this process had freed
    held.write(bytes(len(held)))
    with open(os.devnull) as _:
        more, more_files = soak.look(os.getpid())
    assert 45 < more - memory < 60 and more_files == files + 1
    assert soak.look(2**30) is None


def test_the_family_of_a_process() -> None:
    worker = multiprocessing.get_context("fork").Process(target=multiprocessing.Event().wait)
    before = soak.family(os.getpid())
    worker.start()
    assert soak.family(os.getpid()) == sorted([*before, worker.pid], key=lambda pid: (pid != os.getpid(), pid))
    worker.kill()


def test_a_run_is_stopped_with_its_children() -> None:
    shell = subprocess.Popen(
        ["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    child = int(shell.stdout.readline())
    soak.stop(shell)
    assert shell.returncode == -signal.SIGKILL
    end = time.monotonic() + 30  # the system removes a killed orphan when it has time
    while soak.look(child) is not None:
        assert time.monotonic() < end
        time.sleep(0.05)
    soak.stop(shell)  # nothing is left to stop


@pytest.mark.slow
def test_two_thousand_iterations_with_two_workers() -> None:
    soak.main()


def test_too_few_iterations_are_refused() -> None:
    """Before the run, and of a process that was seen too seldom."""
    with pytest.raises(ValueError, match="iterations is 599, expected at least 600"):
        soak.main(iterations=599)
    for last in (0, 400, 500):
        with pytest.raises(
            ValueError, match=r"samples of [01] epochs after iteration 400, expected at least 3 samples"
        ):
            soak.growth([(n, 200.0, 12) for n in range(0, last + 1, 5)])
    assert soak.growth([(n, 200.0, 12) for n in range(0, 601, 5)])["mb_per_1000_iterations"] == 0
