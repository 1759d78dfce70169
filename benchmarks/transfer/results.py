# SPDX-License-Identifier: Apache-2.0
"""The results of a task, a JSON-lines file. Lines are appended one by one; there are two kinds:

{"settings": NAME, "shared": {...}}: settings that the cells of one method and protocol share.
{"cell": NAME, "settings": NAME of a line above, "own": {...}, ...}: a cell, its own settings, and what was measured.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import sys
from pathlib import Path
from typing import IO, Any

Content = dict[str, Any]
# settings in which the cells of one method and protocol differ
OWN = ("seed", "learning_rate", "labelled", "part", "step")
ENDING = re.compile(r"(_labelled\d+)?(_rate\d[\d.e-]*)?(_seed\d+)?(_step\d+)?$")  # of a cell's name


def read_results(path: Path) -> dict[str, Content]:
    """The cells of a task by name, sorted by name; each has all of its "settings". Empty if there is no file.

    Raises:
        ValueError: a line is not as described above; the error names the file and the line.
    """
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        return cells_of(read_lines(file), path)


def append_result(path: Path, name: str, result: Content) -> None:
    """Appends a cell, unless another run has appended it already.

    Concurrent writers wait for each other. The line is on disk when the function returns.

    Args:
        path: of the file; made if missing.
        name: of the cell.
        result: "settings" and what was measured.

    Raises:
        OSError: the disk is full, for example; the file is as before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lines = read_lines(file)
        if name in cells_of(lines, path):
            return
        end = sum(map(len, lines))
        file.truncate(end)  # without a line that was cut off
        added = new_lines(lines, name, result)
        try:
            if file.write(added) < len(added):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError as error:
            file.truncate(end)
            raise OSError(f"cell {name} could not be written to {path}: {error}") from error


def new_lines(lines: list[bytes], name: str, result: Content) -> bytes:
    """The lines that add a cell to a file: if none has its shared settings yet, first one that has."""
    known = {entry["settings"]: entry["shared"] for entry in map(json.loads, lines) if "shared" in entry}
    shared, own = divided(result["settings"])
    group = ENDING.sub("", name)
    while known.get(group, shared) != shared:
        group += "_changed"
    measured = {key: value for key, value in result.items() if key != "settings"}
    entries = [] if group in known else [{"settings": group, "shared": shared}]
    entries.append({"cell": name, "settings": group, "own": own, **measured})
    return b"".join(json.dumps(entry, ensure_ascii=False).encode() + b"\n" for entry in entries)


def divided(settings: Content) -> tuple[Content, Content]:
    """The settings that cells share and those that a cell has for itself, at the top and in "overrides"."""
    shared = {name: value for name, value in settings.items() if name not in OWN}
    own = {name: settings[name] for name in OWN if name in settings}
    if "overrides" in settings:
        shared["overrides"], overrides = divided(settings["overrides"])
        own |= {"overrides": overrides} if overrides else {}
    return shared, own


def joined(shared: Content, own: Content) -> Content:
    """The settings that `divided` divides."""
    overrides = {"overrides": shared["overrides"] | own["overrides"]} if "overrides" in own else {}
    return shared | own | overrides


def cells_of(lines: list[bytes], path: Path) -> dict[str, Content]:
    """The cells in the lines of a file; the path is for the error."""
    shared, cells = {}, {}
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            if "shared" in entry:
                shared[entry["settings"]] = entry["shared"]
            else:
                name, settings = entry.pop("cell"), joined(shared[entry.pop("settings")], entry.pop("own"))
                cells[name] = {"settings": settings, **entry}
        except (ValueError, KeyError) as error:
            raise ValueError(f"{path}, line {number}: expected settings or a cell, got {line[:80]!r}") from error
    return dict(sorted(cells.items()))


def read_lines(file: IO[bytes]) -> list[bytes]:
    """The lines of a file. A last line without its end, as a killed run may leave, is left out and said."""
    file.seek(0)
    lines = file.read().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        print(f"{file.name}: line {len(lines)} was cut off and is left out", file=sys.stderr, flush=True)
        lines.pop()
    return lines
