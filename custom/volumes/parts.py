# SPDX-License-Identifier: Apache-2.0
"""The files of a volume: one file, the slices in a DICOM folder, or a header and the data files that it names."""

from __future__ import annotations

import os

from .text_header import data_files


def files_of(path: str | os.PathLike) -> list[str]:
    """Paths of all files of a volume that exist, the given file first, then sorted.

    Args:
        path: a file or a folder. A path that does not exist has no files.
    """
    if os.path.isdir(path):
        return sorted(entry.path for entry in os.scandir(path) if entry.is_file())
    if not os.path.isfile(path):
        return []
    return [str(path), *filter(os.path.isfile, sorted(set(data_files(str(path)))))]


def volume_state(path: str | os.PathLike) -> list[tuple[str, int, int]]:
    """Absolute name, size in bytes and time of change in nanoseconds of each file of a volume.

    A volume with another state is read again.
    """
    states = [(os.path.abspath(name), os.stat(name)) for name in files_of(path)]
    return [(name, state.st_size, state.st_mtime_ns) for name, state in states]
