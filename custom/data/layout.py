# SPDX-License-Identifier: Apache-2.0
"""Layouts of data sets without lists: which files are images, which are their label maps, who is the subject."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ..volumes import VOLUME_SUFFIXES, Image, is_dicom_file, paths_of, warn_once
from .bids import derivative_labels, derivatives_by_folder, is_no_anatomy
from .names import MODALITY_AT_END, NUMBER_AT_END, modality_channel, natural_key, numbered_channel, stem
from .output_names import earlier_outputs
from .subjects import BIDS_RULE, DICOM_RULE, IMAGE_FOLDER, NNUNET_RULE, image_folder_index, subject_of

logger = logging.getLogger(__name__)

LABEL_WORDS = "seg|segm|segmentation|dseg|probseg|label|labels|labelmap|mask|masks|gt"
LABEL_AT_END = re.compile(rf"(?:(?P<base>.*)[_.-])?(?:{LABEL_WORDS})", re.IGNORECASE)  # case_seg, case-label, mask
LABEL_AT_START = re.compile(r"(?:seg|segmentation|labels?|masks?)[_.-]?(?P<number>\d+)", re.IGNORECASE)  # label0012
LABEL_FOLDER = re.compile(r"(?:labels?|masks?|segmentations?)(?P<part>Tr|Ts|Va|Val)?", re.IGNORECASE)
TEST_PARTS = ("ts",)


class Volume(NamedTuple):
    """An image of a data set.

    Args:
        image: path relative to the root of the data set, or the paths of its channels.
        labels: paths of its label maps; more than one is an ambiguity.
        subject: name of the person.
        rule: how the subject was found, for the log.
        is_test: whether it is in a test folder such as imagesTs.
    """

    image: Image
    labels: tuple[str, ...]
    subject: str
    rule: str
    is_test: bool


def find_layout(root: str, channels: int = 1) -> tuple[list[Volume], list[str]]:
    """
    The image files below a folder, each with its label map and subject.

    An image whose name begins with that of a label map, and goes on with more than a modality or a channel, has no
    label map; a warning names it.

    Args:
        root: an existing folder.
        channels: number of channels of an image; several files may be one (see `group_channels`).

    Returns:
        (volumes in natural order, paths of label maps without an image, which are left out).
    """
    folders: dict[str, list[str]] = {}
    for path in sorted(_walk(root), key=natural_key):
        folders.setdefault(os.path.dirname(path), []).append(path)
    volumes: list[Volume] = []
    leftover: list[str] = []
    similar: dict[str, list[str]] = {}  # image without label map -> label maps whose name begins its name
    for folder, members in folders.items():
        if _is_folder_of_labels(root, folder):
            continue
        names = {path: name for path in members if (name := _label_name(path)) is not None}
        images = [path for path in members if path not in names]
        cases = _numbered_cases(images, lambda path: bool(_labels_beside(root, path)), channels)
        labels_of = _by_name(names)
        if not _are_one_case(images, cases):
            labels_of.pop("", None)  # a label map without the name of a case fits one image only
        used: set[str] = set()
        for image in images:
            own = _own_labels(image, labels_of)
            used |= set(own)
            labels = own or _labels_beside(root, image) or _labels_beside(root, cases.get(image))
            label_name = names.get(labels[0]) if labels else _beginning(image, labels_of)
            if label_name and not labels:
                similar[image] = labels_of[label_name]
            subject, rule = subject_of(root, image, label_name, cases.get(image))
            volumes.append(Volume(image, tuple(labels), subject, rule, _part(image) in TEST_PARTS))
        leftover += [path for path in names if path not in used]
    volumes, leftover = _with_derivatives(volumes, leftover)
    _warn_of_similar(root, {v.image: similar[v.image] for v in volumes if v.image in similar and not v.labels})
    return sorted(volumes, key=lambda volume: natural_key(volume.image)), leftover


def layout_name(volumes: Sequence[Volume]) -> str:
    """The layout that the volumes of a folder have, in words for the log."""
    rules = {volume.rule for volume in volumes}
    parts = [paths_of(volume.image)[0].split(os.sep) for volume in volumes]
    names = {path[index] for path in parts if (index := image_folder_index(path)) is not None}
    if rules == {BIDS_RULE}:
        return "BIDS"
    if NNUNET_RULE in rules:
        return "nnU-Net folders"
    if rules == {DICOM_RULE}:
        return "DICOM series"
    return f"folders of images ({', '.join(sorted(names))})" if names else "files"


def _with_derivatives(volumes: Sequence[Volume], labels: Sequence[str]) -> tuple[list[Volume], list[str]]:
    """Volumes without a label map with that among the derivatives of BIDS, and the label maps that are left over."""
    result, used = [], set()
    by_folder = derivatives_by_folder(labels)
    for volume in volumes:
        if volume.rule == BIDS_RULE and not volume.labels:
            volume = volume._replace(labels=tuple(derivative_labels(volume.image, by_folder)))
            used |= set(volume.labels)
        result.append(volume)
    return result, [path for path in labels if path not in used]


def _walk(root: str) -> Iterator[str]:
    """Relative paths of volume files and DICOM folders.

    Links to folders are followed once. Left out: hidden names, what an earlier run wrote (`earlier_outputs`) unless it
    is label maps to train on, and folders of BIDS that hold no anatomy.
    """
    seen, outputs, left_out, no_anatomy = set(), set(), 0, []
    for folder, folders, files in os.walk(root, onerror=_raise, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        if is_no_anatomy(os.path.relpath(folder, root)):
            folders.clear()
            no_anatomy.append(os.path.relpath(folder, root))
            continue
        outputs |= {os.path.normpath(os.path.join(folder, name)) for name in earlier_outputs(folder, but_labels=True)}
        folders[:] = [name for name in folders if not name.startswith(".")]
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
    if no_anatomy:
        listed = ", ".join(no_anatomy[:3])
        logger.info(f"dataset_dir {root!r}: {len(no_anatomy)} folders of BIDS without anatomy are left out: {listed}")


def _raise(error: OSError) -> None:
    raise error


def _ancestors(folder: str) -> Iterator[str]:
    while folder:
        yield folder
        folder = os.path.dirname(folder)


def _is_folder_of_labels(root: str, folder: str) -> bool:
    """Whether the folder or one above it is labels, labelsTr, masks, ... beside images, imagesTr, ..."""
    for inner in _ancestors(folder):
        parent, name = os.path.split(inner)
        match = LABEL_FOLDER.fullmatch(name)
        siblings = [IMAGE_FOLDER.fullmatch(other) for other in os.listdir(os.path.join(root, parent))] if match else []
        if any(sibling and sibling["part"] == match["part"] for sibling in siblings):
            return True
    return False


def _part(path: str) -> str:
    """tr, ts, va or val of the folder imagesTr, imagesTs, ... above an image; otherwise ""."""
    parts = path.split(os.sep)
    index = image_folder_index(parts)
    match = IMAGE_FOLDER.fullmatch(parts[index]) if index is not None else None
    return (match["part"] or "").lower() if match else ""


def _labels_beside(root: str, image: str | None) -> list[str]:
    """The label maps of the same name in folders of label maps beside the folder of images."""
    parts = stem(image).split(os.sep) if image else []
    index = image_folder_index(parts)
    if index is None:
        return []
    part = IMAGE_FOLDER.fullmatch(parts[index])["part"]
    matches = [LABEL_FOLDER.fullmatch(name) for name in sorted(os.listdir(os.path.join(root, *parts[:index])))]
    names = [match.group() for match in matches if match and match["part"] == part]
    labels = [os.path.join(*parts[:index], name, *parts[index + 1 :]) for name in names]
    files = [label + suffix for label in labels for suffix in VOLUME_SUFFIXES]
    return [file for file in files if os.path.isfile(os.path.join(root, file))]


def _label_name(path: str) -> str | None:
    """What a label map's name says of its images: their name, "" if it says nothing; None for an image."""
    name = os.path.basename(stem(path))
    if match := LABEL_AT_START.fullmatch(name):
        return match["number"]
    match = LABEL_AT_END.fullmatch(name)
    return (match["base"] or "") if match else None


def _by_name(names: Mapping[str, str]) -> dict[str, list[str]]:
    """Name of images -> label maps, from the names that label maps say; probabilities of BIDS are no label maps."""
    labels_of: dict[str, list[str]] = {}
    for path, name in names.items():
        if not stem(path).endswith("probseg"):
            labels_of.setdefault(name, []).append(path)
    return labels_of


def _are_one_case(images: Sequence[str], cases: Mapping[str, str]) -> bool:
    """Whether the images of a folder have one name, apart from a modality at its end or the number of a channel."""
    paths = [cases.get(image, image) for image in images]
    return len({(modality_channel(path) or (stem(path),))[0] for path in paths}) <= 1


def _own_labels(image: str, labels_of: Mapping[str, Sequence[str]]) -> list[str]:
    """The label maps in the folder of an image that say most of its name; see `_by_name`.

    They say the name as it is or without a modality or a channel at its end, or the number in it, or nothing where all
    images of the folder are one case.
    """
    name = os.path.basename(stem(image))
    matches = [pattern.fullmatch(name) for pattern in (MODALITY_AT_END, NUMBER_AT_END)]
    bases = [match["base"] or "" for match in matches if match]
    bases += [re.sub(r"_desc-[A-Za-z0-9]+$", "", base) for base in bases]  # sub-1_desc-preproc_T1w of fMRIPrep
    number = re.sub(r"^\D+", "", name)
    said = {"", name, *bases, number if number.isdecimal() else name}
    found = [name for name in sorted(said) if name in labels_of]
    longest = max(map(len, found), default=0)
    return [path for name in found if len(name) == longest for path in labels_of[name]]


def _beginning(image: str, labels_of: Mapping[str, Sequence[str]]) -> str | None:
    """The longest name of a label map that begins the name of an image, before a separator; None without one."""
    name = os.path.basename(stem(image))
    beginnings = [name[: match.start()] for match in re.finditer("[_.-]", name)]
    return max((beginning for beginning in beginnings if beginning in labels_of), key=len, default=None)


def _warn_of_similar(root: str, similar: Mapping[str, Sequence[str]]) -> None:
    if similar:
        listed = ", ".join(f"{image} ({' and '.join(labels)})" for image, labels in list(similar.items())[:5])
        warn_once(
            f"{root}: {len(similar)} images have no label map, because their names add more than a modality (t1) or a "
            f"channel (0000) to the name of a label map: {listed}"
        )


def _numbered_cases(images: Iterable[str], has_label: Callable[[str], bool], channels: int) -> dict[str, str]:
    """Image -> path of its case, for the channels case_0000, case_0001 of nnU-Net in one folder; otherwise {}."""
    found = {image: numbered_channel(image) for image in images}
    cases = {image: match[0] for image, match in found.items() if match and not has_label(image)}
    first = {match[0] for match in found.values() if match and match[1] == "0000"}
    are_channels = len(cases) == len(found) and set(cases.values()) == first
    several = len(first) > 1 or len(cases) == channels > 1 or all(has_label(case) for case in cases.values())
    return cases if are_channels and several else {}
