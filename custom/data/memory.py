# SPDX-License-Identifier: Apache-2.0
"""How much memory this process may still fill."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# the files of a control group (of a container, or a Slurm job) by version: limit, in use, key of what can be dropped
CONTROL_GROUPS = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def available_memory(root: str | os.PathLike = "/") -> int | None:
    """Bytes that this process may still fill: what the machine and all its control groups leave, shared equally by the
    processes that torchrun started on this machine (LOCAL_WORLD_SIZE).

    Args:
        root: folder that holds proc and sys.

    Returns:
        Bytes, or None where the system does not say (only Linux does).
    """
    root = Path(root)
    machine = _table(root / "proc" / "meminfo").get("MemAvailable:")
    if machine is None:
        return None
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(1024 * machine, *_left_by_control_groups(root), 2**63) // processes


def _left_by_control_groups(root: Path) -> Iterator[int]:
    """Bytes that each control group of this process leaves, from its own to the outermost; nothing without limit."""
    for line in _lines(root / "proc" / "self" / "cgroup"):
        _, controllers, group = line.split(":", 2)
        for controller in set(controllers.split(",")) & CONTROL_GROUPS.keys():
            limit_file, used_file, droppable = CONTROL_GROUPS[controller]
            base = root / "sys" / "fs" / "cgroup" / controller
            for folder in (base / group.strip("/"), *(base / group.strip("/")).parents):
                if not folder.is_relative_to(base):
                    break
                limit, used = ("".join(_lines(folder / name)) for name in (limit_file, used_file))
                if limit.isdigit() and used.isdigit():
                    yield max(0, int(limit) - int(used) + _table(folder / "memory.stat").get(droppable, 0))


def _table(path: Path) -> dict[str, int]:
    """The first two words of each line: a name and a number."""
    return {name: int(number) for name, number, *_ in map(str.split, _lines(path))}


def _lines(path: Path) -> list[str]:
    """The lines of a file of the system; none where it does not exist or cannot be read."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
