# SPDX-License-Identifier: Apache-2.0
"""A CSV table of volumes: one line a volume, with columns image, label, subject and split."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..volumes import VOLUME_SUFFIXES
from .entries import Lists, is_whole, short

CHANNEL_COLUMN = re.compile(r"image_\d{4}")  # as the files of nnU-Net
SPLITS = {"": "training", "training": "training", "train": "training", "validation": "validation", "val": "validation"}
SPLITS["test"] = "test"
EXAMPLE = "lines such as image,label,subject,split"


def csv_lists(
    file: str, names: Sequence[str], other_files: Sequence[str] = (), classes: Mapping[str, int] | None = None
) -> Lists:
    """
    The lists of a CSV file with comma and a line of column names.

    Columns: image, or image_0000, image_0001, ... for the channels of an image; label, a path, a whole number (class)
    or the name of a class; subject; split (training, validation or test; train and val are read as well), by default
    training; `other_files`. An empty field is left out, another column is not read.

    Args:
        file: the file.
        names: of the lists.
        other_files: further columns that hold paths.
        classes: class -> value in the data set, for labels that are names of classes; None leaves such labels out.

    Raises:
        ValueError: the file is not UTF-8, has no column image, has both image and image_0000, or has another split or
            class.
    """
    lists: Lists = {name: {} for name in {**dict.fromkeys(names), **dict.fromkeys(SPLITS.values())}}
    for number, row in _rows(file):
        split = row.pop("split", "").lower()
        if split not in SPLITS:
            raise ValueError(f"{file}: line {number}: split is {split!r}, expected training, validation or test")
        channels = [row.get(name, "") for name in sorted(row) if CHANNEL_COLUMN.fullmatch(name)]
        entry: dict[str, Any] = {key: row[key] for key in ("image", "subject", *other_files) if row.get(key)}
        entry |= {"image": channels} if channels else {}
        if (label := _label(row.get("label", ""), classes, f"{file}: line {number}")) is not None:
            entry["label"] = label
        lists[SPLITS[split]][f"line {number}"] = entry
    return {name: lists[name] for name in names}


def class_names(file: str) -> list[str]:
    """The labels of a CSV file that are neither paths nor numbers, once each."""
    texts = dict.fromkeys(row.get("label", "") for _, row in _rows(file))
    return [text for text in texts if text and not is_whole(text) and not _is_path(text)]


def _is_path(text: str) -> bool:
    return text.lower().endswith(VOLUME_SUFFIXES)


def _label(text: str, classes: Mapping[str, int] | None, place: str) -> str | int | None:
    """A path of a volume or a class; None for an empty field and, without classes, for the name of a class."""
    if is_whole(text):
        return int(text)
    if _is_path(text):
        return text
    if text and classes is not None and text not in classes:
        raise ValueError(f"{place}: label is {text!r}, expected a number, {' or '.join(map(repr, classes))}")
    return (classes or {}).get(text)


def _rows(file: str) -> list[tuple[int, dict[str, str]]]:
    """(number of the line, column -> text without spaces around it) of each line that is not empty."""
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, skipinitialspace=True)
            columns = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file} is not a CSV file in UTF-8 ({error}), expected {EXAMPLE}") from error
    of_channels = [name for name in columns if CHANNEL_COLUMN.fullmatch(name)]
    if ("image" in columns) == bool(of_channels) or len(set(columns)) < len(columns):
        raise ValueError(f"{file}: columns {short(columns)}, expected image or image_0000, image_0001, ..., each once")
    for number, row in rows:
        if None in row or None in row.values():
            raise ValueError(f"{file}: line {number} has not {len(columns)} fields, expected {', '.join(columns)}")
    return [(number, {key: value.strip() for key, value in row.items()}) for number, row in rows]
