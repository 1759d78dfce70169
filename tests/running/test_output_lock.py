# SPDX-License-Identifier: Apache-2.0
"""One process at a time writes to an output folder; a killed one leaves no lock behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from custom.running.output_lock import lock_output

ROOT = Path(__file__).parents[2]
HOLD = (
    "import os, sys, time; from custom.running.output_lock import lock_output; lock_output(sys.argv[1]);"
    "child = os.fork(); print('held', flush=True) if child else None; time.sleep(60)"  # as a worker of a DataLoader
)


@pytest.fixture(autouse=True)
def no_locks(monkeypatch):
    monkeypatch.setattr("custom.running.output_lock._held", {})


@pytest.fixture
def other(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, process_group=0
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    os.killpg(process.pid, 9)
    process.wait()


def test_a_second_run_is_refused_with_the_first_one_named(other, tmp_path):
    with pytest.raises(RuntimeError, match=rf"{tmp_path} is in use by process {other.pid} on .+, started \d{{4}}-"):
        lock_output(tmp_path)


def test_the_lock_of_a_killed_run_is_taken_over_though_its_workers_live(other, tmp_path):
    other.kill()
    other.wait()
    lock_output(tmp_path)


def test_a_process_may_lock_its_own_folder_again(tmp_path):
    lock_output(tmp_path)
    lock_output(tmp_path / ".")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=f"output_dir {tmp_path / 'file' / 'out'} cannot be written"):
        lock_output(tmp_path / "file" / "out")
