# SPDX-License-Identifier: Apache-2.0
"""dataset.json: the lists of the Medical Segmentation Decathlon and of nnU-Net, and nnU-Net 2's form without lists."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ..files import read_json
from .entries import Lists, is_whole, short

NNUNET_KEYS = ("numTraining", "file_ending")  # of nnU-Net 2, whose images are in imagesTr and labelsTr
EXAMPLE = '{"training": [{"image": path, "label": path}, ...]}'


def json_lists(file: str, names: Sequence[str]) -> Lists:
    """
    Lists of a dataset.json: those of the Decathlon, or the object "dataset" of nnU-Net 2 as the list "training".

    Args:
        file: the file.
        names: of the lists. A list that the file lacks is empty; one of them must be there.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is malformed.
    """
    content = read_json(file, EXAMPLE)
    if _is_nnunet_2(content):
        return {name: _cases(content, file) if name == "training" else {} for name in names}
    needed = "training" if content.keys().isdisjoint(names) else None
    lists = {name: content.get(name, None if name == needed else []) for name in names}
    for name, entries in lists.items():
        if not isinstance(entries, list):
            found = f"{name} is {short(entries)}" if name in content else f"no {name} among the keys {list(content)}"
            raise ValueError(f'{file}: {found}, expected {{"{name}": [{{"image": path, "label": path}}, ...]}}')
    return {name: {f"{name}[{n}]": entry for n, entry in enumerate(entries)} for name, entries in lists.items()}


def has_no_lists(file: str) -> bool:
    """Whether a dataset.json is that of nnU-Net 2 which describes folders and lists no files."""
    content = read_json(file, EXAMPLE)
    return _is_nnunet_2(content) and "dataset" not in content


def check_channels_stated(file: str, channels: int) -> None:
    """Compare the channels that nnU-Net 2 states with the number that an image shall have, if it is more than one.

    Raises:
        ValueError: they differ.
    """
    stated = read_json(file).get("channel_names")
    if channels > 1 and isinstance(stated, dict) and len(stated) != channels:
        names = ", ".join(map(str, stated.values()))
        raise ValueError(f"{file}: {len(stated)} channel_names ({names}), expected in_channels, which is {channels}")


class UnsupportedLabels(ValueError):
    """A dataset.json states structures that are not one whole number each."""


def stated_labels(file: str) -> dict[str, int]:
    """
    The entry "labels" of a dataset.json: {"0": "background", "1": NAME} of the Decathlon, {NAME: 1} of nnU-Net 2.

    Args:
        file: the file, which may be missing.

    Returns:
        Name -> value in the order of the file; {} if the file or the entry is missing.

    Raises:
        ValueError: the file is malformed.
        UnsupportedLabels: a label is not one whole number, such as the regions and the label "ignore" of nnU-Net.
    """
    labels = read_json(file).get("labels", {}) if os.path.isfile(file) else {}
    if not isinstance(labels, dict):
        raise ValueError(f'{file}: labels is {short(labels)}, expected {{"1": NAME}} or {{NAME: 1}}')
    of_decathlon = all(isinstance(value, str) for value in labels.values())
    named = {name: value for value, name in labels.items()} if of_decathlon else labels
    wrong = {name: value for name, value in named.items() if name == "ignore" or not is_whole(value)}
    if wrong:
        raise UnsupportedLabels(
            f"{file}: labels holds {short(wrong)}, expected one whole number for each structure (regions and the "
            "label ignore are not supported); --labels \"{'NAME': 1}\" names the structures of the run"
        )
    return {name: int(value) for name, value in named.items()}


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


def _is_nnunet_2(content: dict[str, Any]) -> bool:
    return "training" not in content and any(key in content for key in NNUNET_KEYS)


def _cases(content: dict[str, Any], file: str) -> dict[str, Any]:
    """Name -> entry of the cases of nnU-Net 2, {"CASE": {"images": [path, ...], "label": path}, ...}."""
    cases = content["dataset"]
    if not isinstance(cases, dict) or not all(isinstance(case, dict) for case in cases.values()):
        raise ValueError(f'{file}: dataset is {short(cases)}, expected {{"CASE": {{"images": [path], "label": path}}}}')
    keys = {"image": "images", "label": "label"}
    return {
        f"dataset.{name}": {key: case[own] for key, own in keys.items() if own in case} | {"subject": name}
        for name, case in cases.items()
    }
