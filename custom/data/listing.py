# SPDX-License-Identifier: Apache-2.0
"""The file that lists the volumes of a data set, if there is one: dataset.json or a CSV table."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from .dataset_csv import csv_lists
from .dataset_json import has_no_lists, json_lists
from .entries import Lists, has_no_label, read_entries

logger = logging.getLogger(__name__)

FILES = ("dataset.json", "dataset.csv")
PARTS = ("training", "validation", "test")


def list_file(path: str) -> str | None:
    """
    The file that lists the volumes of a data set, or None: then the folders and names of its files say what they are.

    Args:
        path: a .csv file, or a folder, which may hold one of `FILES`.

    Raises:
        ValueError: the folder holds both; or dataset.json is malformed.
    """
    if path.lower().endswith(".csv") and os.path.isfile(path):
        return path
    files = [os.path.join(path, name) for name in FILES if os.path.isfile(os.path.join(path, name))]
    listing = [file for file in files if not (file.endswith(".json") and has_no_lists(file))]
    if len(listing) > 1:
        raise ValueError(f"{path} holds {' and '.join(FILES)}, expected one of them: both list volumes")
    return listing[0] if listing else None


def read_lists(
    file: str,
    names: Sequence[str] = ("training",),
    other_files: Sequence[str] = (),
    channels: int = 1,
    classes: Mapping[str, int] | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """
    Lists of a file, see `list_file`.

    Args:
        file: dataset.json or a CSV file; its paths are relative to its folder.
        names: of the lists. A list other than "training" is empty if the file lacks it or if none of its entries has a
            label, such as the list "test" of the Decathlon.
        other_files: keys that hold paths, besides image and label.
        channels: number of channels of an image.
        classes: class -> value in the data set, for names of classes in a CSV file.

    Returns:
        list -> items, see `read_entries`.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is malformed, or entries cannot be used; the message lists every problem.
    """
    lists = _lists(file, names, other_files, classes)
    for name, entries in lists.items():
        if name != "training" and has_no_label(list(entries.values())):
            logger.info(f"{file}: the {len(entries)} volumes of {name} have no label and are not used")
            lists[name] = {}
    return read_entries(file, lists, other_files, channels)


def unlabelled_lists(file: str, names: Sequence[str], classes: Mapping[str, int] | None = None) -> list[str]:
    """Those lists of a file that have entries, none of them with a label; arguments as of `read_lists`."""
    lists = _lists(file, names, (), classes)
    return [name for name, entries in lists.items() if has_no_label(list(entries.values()))]


def listed_labels(file: str) -> list[str | int]:
    """Paths of label maps, or classes by number, of the entries of a file."""
    entries = [entry for entries in _lists(file, PARTS, (), None).values() for entry in entries.values()]
    labels = [entry["label"] for entry in entries if isinstance(entry, dict) and "label" in entry]
    folder = os.path.dirname(file)
    return [os.path.join(folder, label) if isinstance(label, str) else label for label in labels if _is_label(label)]


def _is_label(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool) and value != ""


def _lists(file: str, names: Sequence[str], other_files: Sequence[str], classes: Mapping[str, int] | None) -> Lists:
    if file.lower().endswith(".csv"):
        return csv_lists(file, names, other_files, classes)
    return json_lists(file, names)
