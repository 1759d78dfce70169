# SPDX-License-Identifier: Apache-2.0
"""available_memory with files as Linux writes them: the machine, control groups of version 1 and 2, torchrun."""

from __future__ import annotations

from pathlib import Path

import pytest

from custom.data.memory import available_memory


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MACHINE = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    8000 kB\nHugePages_Total: 0\n"}
JOB = "sys/fs/cgroup/slurm/job_1"
VERSION_2 = {
    "proc/self/cgroup": "0::/slurm/job_1/step_0\n",
    f"{JOB}/step_0/memory.max": "max\n",
    f"{JOB}/step_0/memory.current": "10\n",
    f"{JOB}/memory.max": "5000000\n",  # the limit of the job holds for its steps
    f"{JOB}/memory.current": "1500000\n",
    f"{JOB}/memory.stat": "anon 900000\ninactive_file 500000\n",
}
VERSION_1 = {
    "proc/self/cgroup": "4:memory:/docker/x\n1:cpu,cpuacct:/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "3000000\n",  # a container sees its own group as the root
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000000\n",
    "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 0\n",
}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        (MACHINE, 8000 * 1024),
        (MACHINE | VERSION_2, 5_000_000 - 1_500_000 + 500_000),
        (MACHINE | VERSION_1, 2_000_000),
    ],
)
def test_the_smallest_limit_counts(tmp_path: Path, files: dict[str, str], expected: int | None) -> None:
    assert available_memory(write(tmp_path, files)) == expected


def test_processes_of_torchrun_share_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert available_memory(write(tmp_path, MACHINE)) == 2000 * 1024


def test_this_machine_has_some() -> None:
    available = available_memory()
    assert available is None or 10**6 < available < 10**14
