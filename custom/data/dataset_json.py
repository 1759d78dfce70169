# SPDX-License-Identifier: Apache-2.0
"""Lists of a dataset.json: of the Medical Segmentation Decathlon, and the description without lists of nnU-Net 2."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from types import NoneType
from typing import Any

from ..files import read_json
from .layout import stated_subject
from .output_names import stem

logger = logging.getLogger(__name__)

NNUNET_KEYS = ("numTraining", "file_ending")  # of nnU-Net 2, whose images are in imagesTr and labelsTr
LONGEST_VALUE = 100  # characters of a wrong value in a message


def read_dataset_json(
    file: str, lists: Sequence[str] = ("training",), other_files: Sequence[str] = ()
) -> dict[str, list[dict[str, Any]]]:
    """
    Read lists of a dataset.json of the Medical Segmentation Decathlon.

    Args:
        file: the file; its paths are relative to its folder.
        lists: names of the lists to read. The first one is required. Another list is empty if the file lacks it or if
            none of its entries has a label, such as the list "test" of the Decathlon.
        other_files: keys that hold paths, besides image and label.

    Returns:
        list -> items {"image": path, "label": path or class (int), "subject": name} and `other_files`. Label and
        `other_files` are present where the entry has them; the default subject is the person that DICOM, BIDS or
        BraTS names (`stated_subject`), or else the relative path of the image without suffix.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is malformed, or entries cannot be used; the message lists every problem.
    """
    content = read_json(file, f'{{"{lists[0]}": [{{"image": path, "label": path}}, ...]}}')
    parts = {name: content.get(name, None if name == lists[0] else []) for name in lists}
    for name, entries in parts.items():
        if not isinstance(entries, list):
            found = f"{name} is {_short(entries)}" if name in content else f"no {name} among the keys {list(content)}"
            raise ValueError(f'{file}: {found}, expected {{"{name}": [{{"image": path, "label": path}}, ...]}}')
        if name != lists[0] and _has_no_label(entries):
            logger.info(f"{file}: the {len(entries)} volumes of {name} have no label and are not used")
            parts[name] = []
    problems: dict[str, list[str]] = {}
    items = {
        name: [_read_entry(entry, f"{name}[{n}]", file, other_files, problems) for n, entry in enumerate(entries)]
        for name, entries in parts.items()
    }
    if problems:
        listed = "\n  ".join(problem for of_entry in problems.values() for problem in of_entry)
        total = sum(map(len, parts.values()))
        raise ValueError(f"{file}: {len(problems)} of {total} entries cannot be used:\n  {listed}")
    return items


def unlabelled_lists(file: str, lists: Sequence[str]) -> list[str]:
    """Names of the lists of a dataset.json that have entries, none of them with a label."""
    content = read_json(file)
    return [name for name in lists if isinstance(content.get(name), list) and _has_no_label(content[name])]


def has_no_lists(file: str) -> bool:
    """Whether a dataset.json is that of nnU-Net 2, which describes folders and lists no files."""
    content = read_json(file, '{"training": [{"image": path, "label": path}, ...]}')
    return "training" not in content and any(key in content for key in NNUNET_KEYS)


def stated_labels(file: str) -> dict[str, int]:
    """
    The entry "labels" of a dataset.json: {"0": "background", "1": NAME} of the Decathlon, {NAME: 1} of nnU-Net 2.

    Args:
        file: the file, which may be missing.

    Returns:
        Name -> value in the order of the file; {} if the file or the entry is missing.

    Raises:
        ValueError: the file is malformed, or a label is not one whole number (regions and the label "ignore" of nnU-Net
            are not supported).
    """
    labels = read_json(file).get("labels", {}) if os.path.isfile(file) else {}
    if not isinstance(labels, dict):
        raise ValueError(f'{file}: labels is {_short(labels)}, expected {{"1": NAME}} or {{NAME: 1}}')
    of_decathlon = all(isinstance(value, str) for value in labels.values())
    named = {name: value for value, name in labels.items()} if of_decathlon else labels
    wrong = {name: value for name, value in named.items() if name == "ignore" or not _is_whole(value)}
    if wrong:
        raise ValueError(
            f"{file}: labels holds {_short(wrong)}, expected one whole number for each structure (regions and the "
            "label ignore are not supported); --labels \"{'NAME': 1}\" names the structures of the run"
        )
    return {name: int(value) for name, value in named.items()}


def listed_labels(file: str) -> list[str | int]:
    """Paths of label maps, or classes, in the lists of a dataset.json; `read_dataset_json` says what is malformed."""
    content = read_json(file)
    parts = [content.get(part) for part in ("training", "validation", "test")]
    entries = [entry for part in parts if isinstance(part, list) for entry in part if isinstance(entry, dict)]
    labels = [label for entry in entries if isinstance(label := entry.get("label"), str) or type(label) is int]
    return [os.path.join(os.path.dirname(file), label) if isinstance(label, str) else label for label in labels]


def check_count(file: str, found: int) -> None:
    """Compare the number of training cases that nnU-Net 2 states with the number that was found.

    Raises:
        ValueError: they differ.
    """
    stated = read_json(file).get("numTraining", found)
    if stated != found:
        raise ValueError(
            f"{file}: numTraining is {stated}, found {found} cases with label maps in imagesTr and labelsTr"
        )


def _has_no_label(entries: list[Any]) -> bool:
    return bool(entries) and not any(isinstance(entry, dict) and "label" in entry for entry in entries)


def _is_whole(value: Any) -> bool:
    """Whether a value is a whole number, or one as text ("1")."""
    if isinstance(value, str):
        return value.strip().lstrip("-").isdecimal()
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _read_entry(
    entry: Any, name: str, file: str, other_files: Sequence[str], problems: dict[str, list[str]]
) -> dict[str, Any]:
    """The item of one entry. Problems are added to `problems` under the name of the entry."""
    root = os.path.dirname(file)
    entry = {"image": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, dict) or entry.get("image") is None:
        problems[name] = [f"{name}: {_short(entry)}, expected a path or an object with the key image"]
        return {}
    item: dict[str, Any] = {}
    for key in ("image", "label", *other_files):
        value = entry.get(key)
        if value is None:
            continue
        if key == "label" and not isinstance(value, str) and _is_whole(value):
            item[key] = value
            continue
        item[key] = os.path.normpath(os.path.join(root, value)) if isinstance(value, str) else value
        if not isinstance(value, str) or not os.path.exists(item[key]):
            problem = f"{name}.{key}: {_short(value)}, expected an existing file below {root}"
            if key == "label" and isinstance(value, str) and _is_whole(value):
                problem += f", or a class as a number without quotes: {value.strip()}"
            problems.setdefault(name, []).append(problem)
    path = os.path.normpath(str(entry["image"]))
    stated = entry.get("subject")
    if not isinstance(stated, (str, int, NoneType)) or isinstance(stated, bool):
        problems.setdefault(name, []).append(f"{name}.subject: {_short(stated)}, expected a name or a whole number")
    item["subject"] = str((stated_subject(root, path) or [stem(path)])[0] if stated is None else stated)
    return item
