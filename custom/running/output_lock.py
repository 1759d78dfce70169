# SPDX-License-Identifier: Apache-2.0
"""One run at a time writes to a folder."""

from __future__ import annotations

import os
import socket
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from ..files import read_json, write_json

LOCK, OWNER = ".running.lock", ".running.json"
_held: dict[Path, FileLock] = {}  # a lock is released when it is no longer referred to


def lock_output(directory: str | os.PathLike) -> None:
    """Keep other processes out of a folder until this process ends, also if it is killed.

    The lock is one of the operating system on .running.lock; .running.json says who holds it. Both files stay.

    Args:
        directory: the folder; it is made.

    Raises:
        OSError: the folder cannot be made or written.
        RuntimeError: another process holds the folder; the message has its number, machine and start.
    """
    directory = Path(directory).resolve()
    if directory in _held:
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(directory / LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise RuntimeError(
            f"output_dir {directory} is in use by {_owner(directory)}, expected a folder of this run's own: wait, stop "
            "that process, or set another output_dir"
        ) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise type(error)(error.errno, f"output_dir {directory} cannot be written ({reason})") from error
    _held[directory] = lock
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    owner = {"process": os.getpid(), "host": socket.gethostname(), "started": now}
    write_json(directory / OWNER, owner, "the owner of the folder")


def held_directory() -> Path | None:
    """The folder that this process has locked first, or None."""
    return next(iter(_held), None)


def _owner(directory: Path) -> str:
    try:
        owner = read_json(directory / OWNER)
    except (OSError, ValueError):  # the other run has only just taken the lock
        return "another run"
    return f"process {owner.get('process')} on {owner.get('host')}, started {owner.get('started')}"
