# SPDX-License-Identifier: Apache-2.0
"""What is stored with a result: the command, and the machine: processor or GPU, peak memory, versions of libraries."""

from __future__ import annotations

import platform
import resource
import shlex
import sys
from pathlib import Path
from typing import Any

import monai
import torch

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
CPUINFO = Path("/proc/cpuinfo")


def command(benchmark: str) -> str:
    """The command line of this process, for a shell.

    Args:
        benchmark: module in benchmarks/, such as "soak".
    """
    return shlex.join(["python", "-m", f"benchmarks.{benchmark}", *sys.argv[1:]])


def machine() -> dict[str, Any]:
    """Device, peak memory and versions, as they are stored with a result."""
    processor = f"{processor_name()}, {torch.get_num_threads()} threads"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else processor
    return {
        "device": device,
        "peak_memory_gib": round(peak_memory() / 2**30, 2),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "monai": monai.__version__},
    }


def processor_name() -> str:
    """The name of the processor as Linux gives it, or "CPU"."""
    if not CPUINFO.exists():
        return "CPU"
    lines = (line.split(":", 1) for line in CPUINFO.read_text(encoding="utf-8").splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in lines}.get("model name", "CPU")


def reset_peak_memory() -> None:
    """Starts the peak anew, so that it is that of one cell. Other systems than Linux cannot for the main memory."""
    if CLEAR_REFS.exists():
        CLEAR_REFS.write_text("5", encoding="utf-8")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> int:
    """Peak memory in bytes, of the GPU if there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return peak_main_memory()


def peak_main_memory() -> int:
    """Peak main memory of the process in bytes."""
    if STATUS.exists():
        line = next(line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
