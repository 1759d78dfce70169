# SPDX-License-Identifier: Apache-2.0
"""The files of a volume: one file, the slices in a DICOM folder, or a header and the data files that it names."""

from __future__ import annotations

import os
import re
from pathlib import Path

DETACHED = (".mhd", ".nhdr", ".nrrd")  # headers whose voxels may lie in other files
HEADER_BYTES = 1 << 20
DATA_FILE = re.compile(r"^\s*(?:ElementDataFile\s*=|data ?file\s*:)\s*(\S[^\r\n]*)(.*)", re.I | re.M | re.S)


def files_of(path: str | os.PathLike) -> list[str]:
    """Paths of all files of a volume that exist, the given file first, then sorted.

    Args:
        path: a file or a folder. A path that does not exist has no files.
    """
    if os.path.isdir(path):
        return sorted(entry.path for entry in os.scandir(path) if entry.is_file())
    if not os.path.isfile(path):
        return []
    return [str(path), *(name for name in sorted(_data_files(Path(path))) if os.path.isfile(name))]


def volume_state(path: str | os.PathLike) -> list[tuple[str, int, int]]:
    """Absolute name, size in bytes and time of change in nanoseconds of each file of a volume.

    A volume with another state is read again.
    """
    states = [(os.path.abspath(name), os.stat(name)) for name in files_of(path)]
    return [(name, state.st_size, state.st_mtime_ns) for name, state in states]


def _data_files(path: Path) -> set[str]:
    """The files that a MetaImage or NRRD header names: one, a list, or a pattern such as slice%03d.raw 1 90 1."""
    if path.suffix.lower() not in DETACHED:
        return set()
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES).decode("latin-1")
    if path.suffix.lower() != ".mhd":  # after an empty line an NRRD file has its voxels
        header = re.split(r"\r?\n\r?\n", header, maxsplit=1)[0]
    match = DATA_FILE.search(header)
    if match is None or match[1].strip().upper() == "LOCAL":
        return set()
    name = match[1].strip()
    if name.upper().startswith("LIST"):
        return {str(path.parent / line.strip()) for line in match[2].splitlines() if line.strip()}
    if "%" in name:
        pattern = re.sub(r"%\d*[dui]", "*", name.split()[0])
        return {str(found) for found in path.parent.glob(pattern)}
    return {str(path.parent / name)}
