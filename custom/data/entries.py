# SPDX-License-Identifier: Apache-2.0
"""The entries of a list of volumes, in dataset.json or dataset.csv: paths, classes and subjects, checked."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from itertools import count, takewhile
from types import NoneType
from typing import Any

from .names import case_path, stem
from .subjects import stated_subject

Lists = dict[str, dict[str, Any]]  # list -> name of an entry for messages -> entry
LONGEST_VALUE = 100  # characters of a wrong value in a message


def read_entries(
    file: str, lists: Lists, other_files: Sequence[str] = (), channels: int = 1
) -> dict[str, list[dict[str, Any]]]:
    """
    The items of lists of volumes.

    An entry is a path, or an object with "image" and, if it has them, "label" (a path or a class), "subject" and
    `other_files`. The image is a path, a list of the paths of its channels, or the name of a case of nnU-Net
    (case.nii.gz for case_0000.nii.gz, case_0001.nii.gz).

    Args:
        file: the file of the lists; paths are relative to its folder.
        lists: see `Lists`.
        other_files: keys that hold paths, besides image and label.
        channels: number of channels of an image.

    Returns:
        list -> items {"image": path or paths of channels, "label": path or class (int), "subject": name} and
        `other_files`. Label and `other_files` are present where the entry has them; the default subject is the person
        that DICOM, BIDS or BraTS names (`stated_subject`), or else the relative path of the image without suffix.

    Raises:
        ValueError: entries cannot be used; the message lists every problem.
    """
    problems: dict[str, list[str]] = {}
    items = {
        name: [_item(entry, entry_name, file, other_files, channels, problems) for entry_name, entry in entries.items()]
        for name, entries in lists.items()
    }
    if problems:
        listed = "\n  ".join(problem for of_entry in problems.values() for problem in of_entry)
        total = sum(map(len, lists.values()))
        raise ValueError(f"{file}: {len(problems)} of {total} entries cannot be used:\n  {listed}")
    return items


def has_no_label(entries: Sequence[Any]) -> bool:
    """Whether there are entries, none of them with a label."""
    return bool(entries) and not any(isinstance(entry, dict) and "label" in entry for entry in entries)


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, or one as text ("1")."""
    if isinstance(value, str):
        return re.fullmatch(r"\s*-?\d+\s*", value) is not None
    return isinstance(value, int) and not isinstance(value, bool)


def short(value: Any) -> str:
    """A value for a message."""
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _item(
    entry: Any,
    name: str,
    file: str,
    other_files: Sequence[str],
    channels: int,
    problems: dict[str, list[str]],
) -> dict[str, Any]:
    """The item of one entry. Problems are added to `problems` under the name of the entry."""
    root = os.path.dirname(file)
    entry = {"image": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, Mapping) or entry.get("image") is None:
        problems[name] = [f"{name}: {short(entry)}, expected a path or an object with the key image"]
        return {}
    item: dict[str, Any] = {}
    for key in ("image", "label", *other_files):
        value = entry.get(key)
        if value is None:
            continue
        if key == "label" and not isinstance(value, str) and is_whole(value):
            item[key] = value
            continue
        values = value if key == "image" and isinstance(value, list) and value else [value]
        if key == "image" and isinstance(value, str):
            values = _channel_files(root, value) or values
        paths = [os.path.normpath(os.path.join(root, path)) if isinstance(path, str) else path for path in values]
        item[key] = paths[0] if len(paths) == 1 else tuple(paths)
        for path, found in zip(values, paths, strict=True):
            if not isinstance(path, str) or not path.strip() or not os.path.exists(found):
                problem = f"{name}.{key}: {short(path)}, expected an existing file below {root}"
                if key == "label" and isinstance(value, str) and is_whole(value):
                    problem += f", or a class as a number without quotes: {value.strip()}"
                problems.setdefault(name, []).append(problem)
        if len(paths) not in (1, channels):
            problem = f"{name}.{key}: {len(paths)} files, {short(values)}, expected {channels}, one a channel"
            problems.setdefault(name, []).append(f"{problem} (in_channels)")
    stated = entry.get("subject")
    if not isinstance(stated, (str, int, NoneType)) or isinstance(stated, bool):
        problems.setdefault(name, []).append(f"{name}.subject: {short(stated)}, expected a name or a whole number")
    item["subject"] = _subject(root, entry["image"]) if stated is None else str(stated)
    return item


def _channel_files(root: str, path: str) -> list[str]:
    """The files case_0000, case_0001, ... of a case of nnU-Net 1 that a list names case; [] if the file exists."""
    if os.path.exists(os.path.join(root, path)):
        return []
    case = stem(path)
    files = (f"{case}_{number:04}{path[len(case) :]}" for number in count())
    return list(takewhile(lambda file: os.path.exists(os.path.join(root, file)), files))


def _subject(root: str, image: Any) -> str:
    paths = [os.path.normpath(str(path)) for path in (image if isinstance(image, list) and image else [image])]
    return (stated_subject(root, paths[0]) or [case_path(paths)])[0]
