# SPDX-License-Identifier: Apache-2.0
"""The end of a run of several processes."""

from __future__ import annotations

import atexit
import gc

import torch.distributed as dist


def leave_group() -> None:
    """Wait for all processes, leave the process group, and end its threads before the interpreter ends.

    The network in `DistributedDataParallel` keeps the group, and so the threads of gloo, beyond
    `destroy_process_group`. A thread that then releases a tensor while the interpreter ends aborts the process
    ("terminate called without an active exception"). The group is released last: its destructor waits for the threads
    without the lock of the interpreter, for which they may be waiting.

    Raises:
        RuntimeError: another process has ended before it came here.
    """
    groups = [dist.group.WORLD]
    dist.barrier()
    dist.destroy_process_group()

    def release() -> None:
        gc.collect()  # the objects of a config refer to each other
        groups.clear()

    atexit.register(release)
