# SPDX-License-Identifier: Apache-2.0
"""Something happens to a bundle run at a chosen moment: it is killed, or its disk becomes full."""

from __future__ import annotations

import fnmatch
import os
import runpy
import signal
from collections.abc import Callable
from functools import wraps
from pathlib import Path

MOMENTS = ("before", "half", "after")  # of the renaming by which a file gets its name


def run(place: str, name: str, count: int, action: str) -> None:
    """
    Run `python -m monai.bundle` with the arguments of this process, in which something happens.

    Args:
        place: "start", "trainer", "evaluator", or one of `MOMENTS`; "half" leaves half of the temporary file.
        name: of an event of that engine, or a pattern of the name of a file.
        count: at which event or file of that name.
        action: name of a signal that the process sends to itself, or the path of a file that fills its disk.
    """
    calls = {"left": count}

    def happen(here: str, what: str, temporary: str = "") -> None:
        if here != place or not fnmatch.fnmatch(what, name):
            return
        calls["left"] -= 1
        if calls["left"] == 0:
            if place == "half":
                os.truncate(temporary, os.path.getsize(temporary) // 2)
            act(action)

    happen("start", name)
    _watch_files(happen)
    _watch_engines(happen)
    runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)


def act(action: str) -> None:
    """See `run`."""
    if action.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, action))
    else:
        fill(Path(action))


def fill(path: Path) -> None:
    """Writes a file until its disk is full."""
    size = 2**20
    with open(path, "wb", buffering=0) as file:
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2


def _watch_files(happen: Callable[..., None]) -> None:
    def watched(rename: Callable) -> Callable:
        @wraps(rename)
        def renamed(source, target, **options) -> None:
            name = os.path.basename(target)
            for moment in MOMENTS[:2]:
                happen(moment, name, str(source))
            rename(source, target, **options)
            happen("after", name)

        return renamed

    os.replace, os.rename = watched(os.replace), watched(os.rename)


def _watch_engines(happen: Callable[..., None]) -> None:
    from ignite.engine import Engine
    from monai.engines import Trainer

    fire_event = Engine._fire_event

    def fired(engine, event, *arguments, **options):
        happen("trainer" if isinstance(engine, Trainer) else "evaluator", event.name)
        return fire_event(engine, event, *arguments, **options)

    Engine._fire_event = fired
