# SPDX-License-Identifier: Apache-2.0
"""Lists of volumes: the volumes of a folder, their split into training and validation, fixed validation pairs."""

from __future__ import annotations

import itertools
import logging
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..volumes import VOLUME_SUFFIXES, Image, paths_of
from .channels import channel_names, group_channels
from .dataset_json import check_channels_stated
from .layout import Volume, find_layout, layout_name
from .listing import list_file, read_lists
from .names import natural_key
from .subjects import described_rules

logger = logging.getLogger(__name__)

LOOKED_FOR = f"{', '.join(VOLUME_SUFFIXES)} files and folders of DICOM files"
MIN_SUBJECTS_TO_SPLIT = 4
MAX_LISTED_PAIRS = 10**6  # more candidates than this are not listed: their number grows with the square of the volumes


def group_by_subject(items: Sequence[dict[str, Any]]) -> dict[str, list[int]]:
    """Subject -> indices of its items, subjects in natural order. An item without `subject` is a subject of its own."""
    groups: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(str(item.get("subject", item["image"])), []).append(index)
    return {subject: groups[subject] for subject in sorted(groups, key=natural_key)}


def path_of(dataset_dir: Any) -> str:
    """The path of a data set as text. The command line gives a folder name of digits, such as 2024, as a number.

    Raises:
        TypeError: it is no path.
        ValueError: it is not UTF-8.
    """
    if isinstance(dataset_dir, int) and not isinstance(dataset_dir, bool):
        dataset_dir = str(dataset_dir)
    if not isinstance(dataset_dir, (str, os.PathLike)):
        raise TypeError(f"dataset_dir is {dataset_dir!r} ({type(dataset_dir).__name__}), expected a path")
    path = os.path.expanduser(os.fspath(dataset_dir))
    _refuse_undecodable([path])
    return path


def _refuse_undecodable(paths: Sequence[str]) -> None:
    """Refuse names that are not UTF-8: ITK cannot open such files, and no log or JSON can name them."""
    wrong = [path for path in paths if any("\ud800" <= letter <= "\udfff" for letter in path)]
    if wrong:
        listed = ", ".join(ascii(path) for path in wrong[:5])
        raise ValueError(f"{len(wrong)} file names are not UTF-8: {listed}; expected names in UTF-8 (rename them)")


def find_parts(
    dataset_dir: str | os.PathLike | int, channels: int = 1, labels_needed: bool = False
) -> dict[str, list[dict[str, Any]]]:
    """
    The volumes of a folder without lists: "training", and "test" of folders such as imagesTs beside imagesTr.

    Args:
        dataset_dir: see `find_volumes`.
        channels: see `find_volumes`.
        labels_needed: whether an image with several label maps is an error; otherwise none of them is used.

    Returns:
        part -> items, see `find_volumes`.

    Raises:
        FileNotFoundError, NotADirectoryError: see `find_volumes`.
        ValueError: see `find_volumes`; or labels are needed, and an image has several label maps (the message names
            them).
    """
    root = path_of(dataset_dir)
    if not os.path.exists(root):
        raise FileNotFoundError(f"dataset_dir {root!r} does not exist, expected a folder of volumes ({LOOKED_FOR})")
    if not os.path.isdir(root):
        raise NotADirectoryError(f"dataset_dir {root!r} is a file, expected a folder of volumes ({LOOKED_FOR})")
    volumes, unused_labels = find_layout(root, channels)
    _refuse_undecodable([volume.image for volume in volumes])
    if os.path.isfile(dataset_json := os.path.join(root, "dataset.json")):  # of nnU-Net 2
        check_channels_stated(dataset_json, channels)
    names = channel_names(volumes)
    volumes = _with_one_label(group_channels(volumes, channels, root), root, labels_needed)
    if unused_labels:
        listed = ", ".join(unused_labels[:5])
        logger.warning(f"{root}: {len(unused_labels)} files have names of label maps and are left out: {listed}")
    layout = layout_name(volumes)
    training = [volume for volume in volumes if not volume.is_test]
    if not training:  # a folder of test images alone
        training, volumes = volumes, []
    parts = {"training": training, "test": [volume for volume in volumes if volume.is_test]}
    described = f"{len(training)} volumes of {len({volume.subject for volume in training})} subjects"
    rules = described_rules([volume.rule for volume in training])
    labelled = sum(bool(volume.labels) for volume in training)
    logger.info(f"dataset_dir {root!r}, layout {layout}: {described} (by {rules}), {labelled} with labels")
    if names and channels == 1:
        logger.info(
            f"each file of a case ({', '.join(names)}) is a volume of its own; --in_channels {len(names)} reads them "
            "as the channels of one image"
        )
    elif names:
        logger.info(f"the channels of an image are {', '.join(names)}, each a file")
    if parts["test"]:
        logger.info(f"dataset_dir {root!r}: {len(parts['test'])} volumes of test folders are not used for training")
    return {part: [_item(root, volume) for volume in members] for part, members in parts.items()}


def _with_one_label(volumes: Sequence[Volume], root: str, labels_needed: bool) -> list[Volume]:
    """Volumes of which none has several label maps: that is an error, or they are left out with a warning."""
    several = [
        f"{paths_of(volume.image)[0]}: {' and '.join(volume.labels)}" for volume in volumes if len(volume.labels) > 1
    ]
    if several:
        described = f"dataset_dir {root!r}: {len(several)} images have several label maps"
        if labels_needed:
            listed = "\n  ".join(several[:20])
            raise ValueError(f"{described}, expected one each (dataset.json or dataset.csv can say which):\n  {listed}")
        logger.warning(f"{described}, of which none is used, such as {several[0]}")
    return [volume if len(volume.labels) < 2 else volume._replace(labels=()) for volume in volumes]


def _item(root: str, volume: Volume) -> dict[str, Any]:
    item = {"image": _below(root, volume.image), "subject": volume.subject}
    return item | ({"label": _below(root, volume.labels[0])} if volume.labels else {})


def _below(root: str, image: Image) -> Image:
    paths = [os.path.normpath(os.path.join(root, path)) for path in paths_of(image)]
    return paths[0] if isinstance(image, str) else tuple(paths)


def find_volumes(
    dataset_dir: str | os.PathLike | int, min_subjects: int = 2, channels: int = 1, other_files: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """
    List the volumes of a data set in an order that depends on their names only.

    With a `dataset.json` (Medical Segmentation Decathlon) or `dataset.csv` its list "training" is used. Otherwise, and
    with the dataset.json of nnU-Net 2, which has no lists, each .nii, .nii.gz, .nrrd, .mha and .mhd file below the
    folder, and each folder that holds DICOM files, is one volume; hidden files (names that begin with a dot) are
    skipped.

    Label maps are no images. They are recognised by their folder (`labels` beside `images`, `labelsTr` beside
    `imagesTr`; the file has the name of the image), by their name (`case_seg`, `case-label`, `mask`,
    `segmentation-12` beside `volume-12`), or among the derivatives of BIDS; one without an image is left out with a
    warning.

    The subject is, in this order: the PatientID of a DICOM folder, `sub-*` of BIDS, the patient in a name of BraTS
    2023, the folder above `ses-*`, the case of nnU-Net's channels (`case_0000`), a folder of one case (with `t1` and
    `t2`, or with files that begin with its name), the name before a modality (`case_t1`), the relative path of the
    image without suffix. The log says which. A dataset.json can name the `subject` of each volume.

    Args:
        dataset_dir: folder of volumes, or a CSV file that lists them; a number is a folder name of digits.
        min_subjects: smallest number of different subjects.
        channels: number of channels of an image. If it is more than one, the files of a case (case_0000, case_0001;
            case_t1, case_t2) are the channels of one image.
        other_files: further keys of the entries of lists that hold paths, such as lung masks.

    Returns:
        Items {"image": path or paths of channels, "label": path, "subject": name} and `other_files`. The label is
        present where a label map exists.

    Raises:
        FileNotFoundError: the folder does not exist.
        NotADirectoryError: the path is a file.
        TypeError: dataset_dir is no path.
        ValueError: there are too few subjects, a file name is not UTF-8, a case has other channels, or dataset.json or
            dataset.csv is malformed, names missing files, or stands beside the other one.
    """
    root = path_of(dataset_dir)
    if file := list_file(root):
        source = f"the list training of {file}"
        items = read_lists(file, ("training",), other_files, channels)["training"]
        for item in items:
            if isinstance(item.get("label"), int):  # the class of a volume, not a label map
                del item["label"]
        labelled = sum("label" in item for item in items)
        described = f"{len(items)} volumes of {len(group_by_subject(items))} subjects"
        logger.info(f"{source}: {described} (by subject or name in {os.path.basename(file)}), {labelled} with labels")
    else:
        source = f"dataset_dir {root!r}"
        items = find_parts(root, channels)["training"]
    subjects = len(group_by_subject(items))
    if subjects < min_subjects:
        counts = Counter(item["subject"] for item in items).most_common(1)
        raise ValueError(
            f"{source} holds {len(items)} volumes of {subjects} subjects"
            + (f" ({counts[0][0]})" if len(items) > 1 else "")
            + f", expected at least {min_subjects} subjects (looked for {LOOKED_FOR})"
        )
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


def fixed_pairs(items: Sequence[dict[str, Any]], count: int, seed: int) -> list[dict[str, Any]]:
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
    existing = len(items) ** 2 - sum(len(indices) ** 2 for indices in groups.values())
    if count > existing:
        logger.warning("only %d of %d validation pairs exist for %d subjects", existing, count, len(groups))
    generator = np.random.default_rng(seed)
    if existing <= max(MAX_LISTED_PAIRS, 2 * count):
        listed = [pair for pair in itertools.permutations(subject_of, 2) if subject_of[pair[0]] != subject_of[pair[1]]]
        chosen = [listed[index] for index in generator.permutation(existing)[:count]]
    else:
        chosen = _sampled_pairs(subject_of, count, generator)
    pairs = []
    for moving, fixed in chosen:
        pair = {"moving": items[moving]["image"], "fixed": items[fixed]["image"]}
        pair |= {"moving_subject": subject_of[moving], "fixed_subject": subject_of[fixed]}
        if "label" in items[moving] and "label" in items[fixed]:
            pair |= {"moving_label": items[moving]["label"], "fixed_label": items[fixed]["label"]}
        pairs.append(pair)
    return pairs


def _sampled_pairs(subject_of: dict[int, str], count: int, generator: np.random.Generator) -> list[tuple[int, int]]:
    """Different ordered pairs of volumes of different subjects, uniform among all, without listing them."""
    chosen: dict[tuple[int, int], None] = {}  # a dictionary, because a set has no order
    while len(chosen) < count:
        moving, fixed = map(int, generator.integers(len(subject_of), size=2))
        if subject_of[moving] != subject_of[fixed]:
            chosen[moving, fixed] = None
    return list(chosen)
