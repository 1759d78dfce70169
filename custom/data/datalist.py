# SPDX-License-Identifier: Apache-2.0
"""From a folder to a list of volumes, to a training and a validation part, to fixed validation pairs."""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..volumes import VOLUME_SUFFIXES, is_dicom_file

logger = logging.getLogger(__name__)

LOOKED_FOR = f"{', '.join(VOLUME_SUFFIXES)} files and folders of DICOM files"
MIN_SUBJECTS_TO_SPLIT = 4


def _stem(path: str) -> str:
    suffix = max((s for s in VOLUME_SUFFIXES if path.lower().endswith(s)), key=len, default="")
    return path[: len(path) - len(suffix)]


def _natural_key(path: str) -> tuple[list[str | int], str]:
    parts = re.split(r"(\d+)", path.lower())
    return [int(part) if part.isdecimal() else part for part in parts], path


def _raise(error: OSError) -> None:
    raise error


def _walk_volumes(root: str) -> Iterator[str]:
    """Relative paths of volume files and DICOM folders; skips hidden names and each `labels` beside an `images`."""
    seen = set()
    for folder, folders, files in os.walk(root, onerror=_raise, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        if {"images", "labels"} <= set(folders):
            folders.remove("labels")
        for name in files:
            if name.lower().endswith(VOLUME_SUFFIXES) and not name.startswith("."):
                yield os.path.relpath(os.path.join(folder, name), root)
        if any(is_dicom_file(os.path.join(folder, name)) for name in files):
            yield os.path.relpath(folder, root)


def _item(root: str, path: str) -> dict[str, str]:
    """The item of one volume, with the label map of the same name in the `labels` folder beside its `images`."""
    full_path = os.path.normpath(os.path.join(root, path))
    parts = _stem(path).split(os.sep)
    if path == os.curdir:
        return {"image": full_path, "subject": os.path.basename(os.path.abspath(root))}
    item = {"image": full_path}
    if "images" in parts[:-1]:
        place = len(parts) - 2 - parts[-2::-1].index("images")
        label = os.path.join(root, *parts[:place], "labels", *parts[place + 1 :])
        found = [label + suffix for suffix in VOLUME_SUFFIXES if os.path.isfile(label + suffix)]
        if found:
            item["label"] = os.path.normpath(found[0])
        del parts[place]
    return item | {"subject": "/".join(parts)}


def read_dataset_json(
    file: str, lists: Sequence[str] = ("training",), other_files: Sequence[str] = ()
) -> dict[str, list[dict[str, Any]]]:
    """
    Items of the lists of a Decathlon dataset.json.

    Args:
        file: its paths are relative to its folder.
        lists: which lists to read. The first must be there; of the others one that is not there is empty, and so is one
            without any label, such as Decathlon's own "test".
        other_files: keys beside image and label that hold paths.

    Returns:
        list -> items {"image": path, "label": path or class (int) if known, "subject": name; by default the relative
        path of the image without suffix} and `other_files` where an entry has them.

    Raises:
        ValueError: a malformed file, or entries that cannot be used; every problem is reported.
    """
    try:
        with open(file, encoding="utf-8") as stream:
            content = json.load(stream)
    except ValueError as error:
        raise ValueError(f"{file}: not valid JSON ({error})") from error
    content = content if isinstance(content, dict) else {}
    parts = {name: content.get(name, None if name == lists[0] else []) for name in lists}
    for name, entries in parts.items():
        if not isinstance(entries, list):
            raise ValueError(f'{file}: expected {{"{name}": [{{"image": path, "label": path}}, ...]}}')
        if entries and name != lists[0] and not any(isinstance(entry, dict) and "label" in entry for entry in entries):
            logger.info(f"{file}: the {len(entries)} volumes of {name} have no label and are left aside")
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


def _read_entry(
    entry: Any, name: str, file: str, other_files: Sequence[str], problems: dict[str, list[str]]
) -> dict[str, Any]:
    """One item; what is wrong with it is added to `problems` under its name."""
    root = os.path.dirname(file)
    entry = {"image": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, dict) or "image" not in entry:
        problems[name] = [f"{name}: {entry!r}, expected a path or an object with the key image"]
        return {}
    item: dict[str, Any] = {}
    for key in ("image", "label", *other_files):
        value = entry.get(key)
        if value is None:
            continue
        if key == "label" and isinstance(value, int) and not isinstance(value, bool):
            item[key] = value
            continue
        item[key] = os.path.normpath(os.path.join(root, value)) if isinstance(value, str) else value
        if not isinstance(value, str) or not os.path.exists(item[key]):
            problem = f"{name}.{key}: {value!r}, expected an existing file below {root}"
            problems.setdefault(name, []).append(problem)
    item["subject"] = str(entry.get("subject", _stem(os.path.normpath(str(entry["image"])))))
    return item


def group_by_subject(items: Sequence[dict[str, Any]]) -> dict[str, list[int]]:
    """Indices of the items of each subject, subjects in natural order; an item without `subject` is its own."""
    groups: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(str(item.get("subject", item["image"])), []).append(index)
    return {subject: groups[subject] for subject in sorted(groups, key=_natural_key)}


def find_volumes(dataset_dir: str | os.PathLike, min_subjects: int = 2) -> list[dict[str, str]]:
    """
    List the volumes of a folder, in an order that depends on their names only.

    With a `dataset.json` (Medical Segmentation Decathlon) the list is its "training". Otherwise every .nii, .nii.gz,
    .nrrd, .mha and .mhd file below the folder and every folder that holds DICOM files counts as one volume, hidden
    names (._* too) aside. A folder `labels` beside a folder `images` is not searched: its files are the label maps of
    the images of the same name. Without such folders label maps cannot be told from images: keep them elsewhere, or
    list the images in a dataset.json, which can also say which volumes are of the same `subject`.

    Args:
        dataset_dir: folder of volumes, or of `images/` and `labels/`.
        min_subjects: fewer different subjects are an error.

    Returns:
        Items {"image": path, "label": path if known, "subject": name; by default the relative path without suffix}.

    Raises:
        FileNotFoundError, NotADirectoryError: no such folder.
        ValueError: too few subjects, or a dataset.json that is malformed or names missing files.
    """
    root = os.path.expanduser(os.fspath(dataset_dir))
    if not os.path.exists(root):
        raise FileNotFoundError(f"dataset_dir {root!r} does not exist, expected a folder of volumes ({LOOKED_FOR})")
    if not os.path.isdir(root):
        raise NotADirectoryError(f"dataset_dir {root!r} is a file, expected a folder of volumes ({LOOKED_FOR})")
    dataset_json = os.path.join(root, "dataset.json")
    if os.path.isfile(dataset_json):
        source = f"the list training of {dataset_json}"
        items = read_dataset_json(dataset_json)["training"]
        for item in items:
            if isinstance(item.get("label"), int):  # the class of a volume, not a label map
                del item["label"]
    else:
        source = f"dataset_dir {root!r}"
        items = [_item(root, path) for path in sorted(_walk_volumes(root), key=_natural_key)]
    subjects = len(group_by_subject(items))
    if subjects < min_subjects:
        raise ValueError(
            f"{source} holds {len(items)} volumes of {subjects} subjects, expected at least {min_subjects} subjects "
            f"(looked for {LOOKED_FOR})"
        )
    labelled = sum("label" in item for item in items)
    logger.info("%s: %d volumes of %d subjects, %d with labels", source, len(items), subjects, labelled)
    return items


def split_volumes(
    items: Sequence[dict[str, Any]], validation: int | float, seed: int
) -> dict[str, list[dict[str, Any]]]:
    """
    Split into training and validation by subject; one seed gives one split whatever the order of the items.

    Both sides keep at least two subjects, because a pair needs two: a smaller validation part is raised to two, a
    larger share is lowered, each with a logged warning. Two or three subjects cannot be split: then validation uses
    the training volumes, with a logged warning that its figures are not of held-out subjects.

    Args:
        items: from `find_volumes`.
        validation: number of subjects (int) or share of the subjects (float between 0 and 1).
        seed: of the draw.

    Returns:
        {"training": items, "validation": items}, each in the order of `items`.

    Raises:
        ValueError: fewer than two subjects, or a `validation` that is not positive or leaves fewer than two.
    """
    subjects = list(group_by_subject(items))
    if len(subjects) < 2:
        raise ValueError(f"{len(items)} volumes of {len(subjects)} subjects to split, expected at least two subjects")
    is_share = isinstance(validation, float)
    if validation <= 0 or (is_share and validation >= 1):
        raise ValueError(f"validation is {validation}, expected a number of subjects or a share between 0 and 1")
    if len(subjects) < MIN_SUBJECTS_TO_SPLIT:
        logger.warning(
            "%d subjects cannot be split (%d needed): validation uses the training volumes, its figures are not of "
            "held-out subjects",
            len(subjects),
            MIN_SUBJECTS_TO_SPLIT,
        )
        return {"training": list(items), "validation": list(items)}
    wanted = round(validation * len(subjects)) if is_share else int(validation)
    if not is_share and wanted > len(subjects) - 2:
        raise ValueError(f"validation takes {wanted} of {len(subjects)} subjects, two must remain for training")
    count = min(max(wanted, 2), len(subjects) - 2)
    if count != wanted:
        logger.warning("validation uses %d subjects instead of %d: each side needs two", count, wanted)
    order = np.random.default_rng(seed).permutation(len(subjects))
    held_out = {subjects[place] for place in order[:count]}
    parts: dict[str, list[dict[str, Any]]] = {"training": [], "validation": []}
    for subject, indices in group_by_subject(items).items():
        parts["validation" if subject in held_out else "training"] += indices
    return {name: [items[index] for index in sorted(indices)] for name, indices in parts.items()}


def fixed_pairs(items: Sequence[dict[str, Any]], count: int, seed: int) -> list[dict[str, str]]:
    """
    Draw distinct ordered pairs of different subjects, the same ones for the same items and seed.

    Returns:
        `count` pairs {"moving", "fixed", "moving_subject", "fixed_subject"} with "moving_label" and "fixed_label"
        where both are known; fewer, with a logged warning, where so many do not exist.

    Raises:
        ValueError: `count` below one, or fewer than two subjects.
    """
    groups = group_by_subject(items)
    if count < 1 or len(groups) < 2:
        raise ValueError(f"{count} pairs of {len(groups)} subjects, expected one pair or more and two subjects or more")
    subject_of = {index: subject for subject, indices in groups.items() for index in indices}
    candidates = [pair for pair in itertools.permutations(subject_of, 2) if subject_of[pair[0]] != subject_of[pair[1]]]
    if count > len(candidates):
        logger.warning("only %d of %d validation pairs exist for %d subjects", len(candidates), count, len(groups))
    chosen = np.random.default_rng(seed).permutation(len(candidates))[:count]
    pairs = []
    for moving, fixed in (candidates[place] for place in chosen):
        pair = {"moving": items[moving]["image"], "fixed": items[fixed]["image"]}
        pair |= {"moving_subject": subject_of[moving], "fixed_subject": subject_of[fixed]}
        if "label" in items[moving] and "label" in items[fixed]:
            pair |= {"moving_label": items[moving]["label"], "fixed_label": items[fixed]["label"]}
        pairs.append(pair)
    return pairs
