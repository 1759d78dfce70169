# SPDX-License-Identifier: Apache-2.0
"""Lists of volumes: the volumes of a folder, their split into training and validation, fixed validation pairs."""

from __future__ import annotations

import itertools
import logging
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..files import read_json
from ..volumes import VOLUME_SUFFIXES, is_dicom_file
from .output_names import earlier_outputs, stem

logger = logging.getLogger(__name__)

LOOKED_FOR = f"{', '.join(VOLUME_SUFFIXES)} files and folders of DICOM files"
MIN_SUBJECTS_TO_SPLIT = 4


def _natural_key(path: str) -> tuple[list[str | int], str]:
    parts = re.split(r"(\d+)", path.lower())
    return [int(part) if part.isdecimal() else part for part in parts], path


def _raise(error: OSError) -> None:
    raise error


def _walk_volumes(root: str) -> Iterator[str]:
    """Relative paths of volume files and DICOM folders.

    Left out: hidden names, folders `labels` beside `images`, and what an earlier run wrote (`earlier_outputs`).
    """
    seen, outputs, left_out = set(), set(), 0
    for folder, folders, files in os.walk(root, onerror=_raise, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder that was read before
            folders.clear()
            continue
        seen.add(real)
        outputs |= {os.path.normpath(os.path.join(folder, name)) for name in earlier_outputs(folder)}
        folders[:] = [name for name in folders if not name.startswith(".")]
        if {"images", "labels"} <= set(folders):
            folders.remove("labels")
        for name in files:
            path = os.path.join(folder, name)
            if not name.lower().endswith(VOLUME_SUFFIXES) or name.startswith("."):
                continue
            if os.path.normpath(path) in outputs:
                left_out += 1
            else:
                yield os.path.relpath(path, root)
        if any(is_dicom_file(os.path.join(folder, name)) for name in files):
            yield os.path.relpath(folder, root)
    if left_out:
        logger.info(f"dataset_dir {root!r}: {left_out} files are the output of earlier runs and are left out")


def _item(root: str, path: str) -> dict[str, str]:
    """The item of one volume, with the label map of the same name in the `labels` folder beside its `images`."""
    full_path = os.path.normpath(os.path.join(root, path))
    parts = stem(path).split(os.sep)
    if path == os.curdir:
        return {"image": full_path, "subject": os.path.basename(os.path.abspath(root))}
    item = {"image": full_path}
    if "images" in parts[:-1]:
        index = len(parts) - 2 - parts[-2::-1].index("images")
        label = os.path.join(root, *parts[:index], "labels", *parts[index + 1 :])
        labels = [label + suffix for suffix in VOLUME_SUFFIXES if os.path.isfile(label + suffix)]
        if labels:
            item["label"] = os.path.normpath(labels[0])
        del parts[index]
    return item | {"subject": "/".join(parts)}


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
        `other_files` are present where the entry has them; the default subject is the relative path of the image
        without suffix.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is malformed, or entries cannot be used; the message lists every problem.
    """
    content = read_json(file, f'{{"{lists[0]}": [{{"image": path, "label": path}}, ...]}}')
    parts = {name: content.get(name, None if name == lists[0] else []) for name in lists}
    for name, entries in parts.items():
        if not isinstance(entries, list):
            raise ValueError(f'{file}: expected {{"{name}": [{{"image": path, "label": path}}, ...]}}')
        if entries and name != lists[0] and not any(isinstance(entry, dict) and "label" in entry for entry in entries):
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


def _read_entry(
    entry: Any, name: str, file: str, other_files: Sequence[str], problems: dict[str, list[str]]
) -> dict[str, Any]:
    """The item of one entry. Problems are added to `problems` under the name of the entry."""
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
    item["subject"] = str(entry.get("subject", stem(os.path.normpath(str(entry["image"])))))
    return item


def group_by_subject(items: Sequence[dict[str, Any]]) -> dict[str, list[int]]:
    """Subject -> indices of its items, subjects in natural order. An item without `subject` is a subject of its own."""
    groups: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(str(item.get("subject", item["image"])), []).append(index)
    return {subject: groups[subject] for subject in sorted(groups, key=_natural_key)}


def find_volumes(dataset_dir: str | os.PathLike, min_subjects: int = 2) -> list[dict[str, str]]:
    """
    List the volumes of a folder in an order that depends on their names only.

    With a `dataset.json` (Medical Segmentation Decathlon) its list "training" is used. Otherwise each .nii, .nii.gz,
    .nrrd, .mha and .mhd file below the folder, and each folder that holds DICOM files, is one volume; hidden files
    (names that begin with a dot) are skipped. In a folder `labels` beside a folder `images`, each file is the label
    map of the image of the same name. Without these two folders a label map would count as an image: put label maps
    elsewhere, or list the images in a dataset.json, which can also name the `subject` of each volume.

    Args:
        dataset_dir: folder of volumes, or of `images/` and `labels/`.
        min_subjects: smallest number of different subjects.

    Returns:
        Items {"image": path, "label": path, "subject": name}. The label is present where a label map exists; the
        default subject is the relative path of the image without suffix.

    Raises:
        FileNotFoundError: the folder does not exist.
        NotADirectoryError: the path is a file.
        ValueError: there are too few subjects, or dataset.json is malformed or names missing files.
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
    Split the volumes into training and validation by subject. The split depends on subjects and seed, not on the order.

    Each part has at least two subjects, because a pair needs two: a smaller validation part is raised to two, a larger
    share is lowered, each with a logged warning. Two or three subjects cannot be split. Then validation uses the
    training volumes, and a logged warning says that its measures are not of held-out subjects.

    Args:
        items: from `find_volumes`.
        validation: number of subjects (int) or share of the subjects (float between 0 and 1).
        seed: seed of the draw.

    Returns:
        {"training": items, "validation": items}, each in the order of `items`.

    Raises:
        ValueError: there are fewer than two subjects, or `validation` is not positive or leaves fewer than two.
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
    held_out = {subjects[index] for index in order[:count]}
    parts: dict[str, list[dict[str, Any]]] = {"training": [], "validation": []}
    for subject, indices in group_by_subject(items).items():
        parts["validation" if subject in held_out else "training"] += indices
    return {name: [items[index] for index in sorted(indices)] for name, indices in parts.items()}


def fixed_pairs(items: Sequence[dict[str, Any]], count: int, seed: int) -> list[dict[str, str]]:
    """
    Draw different ordered pairs of volumes of different subjects; equal items and seeds give equal pairs.

    Args:
        items: from `find_volumes`.
        count: number of pairs.
        seed: seed of the draw.

    Returns:
        `count` pairs {"moving", "fixed", "moving_subject", "fixed_subject"}, with "moving_label" and "fixed_label"
        where both volumes have labels. If fewer pairs exist, all of them, with a logged warning.

    Raises:
        ValueError: `count` is below one, or there are fewer than two subjects.
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
    for moving, fixed in (candidates[index] for index in chosen):
        pair = {"moving": items[moving]["image"], "fixed": items[fixed]["image"]}
        pair |= {"moving_subject": subject_of[moving], "fixed_subject": subject_of[fixed]}
        if "label" in items[moving] and "label" in items[fixed]:
            pair |= {"moving_label": items[moving]["label"], "fixed_label": items[fixed]["label"]}
        pairs.append(pair)
    return pairs
