# SPDX-License-Identifier: Apache-2.0
"""No thread of gloo lives when the interpreter of a run of several processes ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
PROCESS = """
import atexit, sys
from pathlib import Path
import torch
import torch.distributed as dist
from custom.running import leave_group

def threads():
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    print("threads", sorted(name for name in names if "gloo" in name))

atexit.register(threads)  # called after what is registered later
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1)
network = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
network(torch.ones(1, 2)).sum().backward()
held = [network]
held.append(held)  # as the objects of a config, which refer to each other
threads()
del network, held
if sys.argv[2] == "leave_group":
    leave_group()
else:
    dist.barrier()
    dist.destroy_process_group()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc lists the threads")
@pytest.mark.parametrize("way", ["leave_group", "destroy_process_group"])
def test_the_threads_of_the_group_end_before_the_interpreter(way: str, tmp_path: Path) -> None:
    """The second way, which the first replaces, leaves them: otherwise the first would not be needed."""
    command = [sys.executable, "-c", PROCESS, str(tmp_path / "store"), way]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]
    during, after = [line for line in done.stdout.splitlines() if line.startswith("threads")]  # gloo may print others
    if during == "threads []":
        pytest.skip(f"the threads of gloo have no names in torch {torch.__version__}")
    assert (after == "threads []") is (way == "leave_group")
