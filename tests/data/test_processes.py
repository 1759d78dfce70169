# SPDX-License-Identifier: Apache-2.0
"""Worker processes: results in any order, and none of them outlives a parent that was killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from custom.data.processes import in_processes

ROOT = Path(__file__).parents[2]
SLEEPERS = """
import os, sys, time
from pathlib import Path
from custom.data.processes import in_processes

def sleep(folder, number):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(300)

list(in_processes(sleep, [(sys.argv[1], number) for number in range(4)], 2))
"""


def square(number: int) -> int:
    return number**2


@pytest.mark.parametrize("workers", [0, 2])
def test_every_call_is_made(workers: int) -> None:
    assert dict(in_processes(square, [(number,) for number in range(5)], workers)) == {n: n**2 for n in range(5)}


def wait_until(condition) -> bool:
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def runs(process: str) -> bool:
    """Whether a process exists and is no zombie, which a container may never collect."""
    status = Path("/proc", process, "status")
    try:
        return "State:\tZ" not in status.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads the states of processes in /proc")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_parent_leaves_no_worker(sent: signal.Signals, tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", SLEEPERS, str(tmp_path)], cwd=ROOT)
    try:
        assert wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    finally:
        parent.send_signal(sent)
        parent.wait()
    workers = [path.name for path in tmp_path.iterdir()]
    assert wait_until(lambda: not any(runs(worker) for worker in workers))
