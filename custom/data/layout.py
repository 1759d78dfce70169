# SPDX-License-Identifier: Apache-2.0
"""Layouts of data sets without lists: which files are images, which are their label maps, who is the subject."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ..volumes import VOLUME_SUFFIXES, is_dicom_file, patient_id
from .output_names import earlier_outputs, stem

logger = logging.getLogger(__name__)

LABEL_WORDS = "seg|segm|segmentation|dseg|probseg|label|labels|labelmap|mask|masks|gt"
LABEL_AT_END = re.compile(rf"(?:(?P<base>.*)[_.-])?(?:{LABEL_WORDS})", re.IGNORECASE)  # case_seg, case-label, mask
LABEL_AT_START = re.compile(r"(?:seg|segmentation|labels?|masks?)[_.-]?(?P<number>\d+)", re.IGNORECASE)  # label0012
IMAGE_FOLDER = re.compile(r"images?(?P<part>Tr|Ts|Va|Val)?", re.IGNORECASE)
LABEL_FOLDER = re.compile(r"(?:labels?|masks?|segmentations?)(?P<part>Tr|Ts|Va|Val)?", re.IGNORECASE)
MODALITY = "t1|t2|t1w|t2w|t1n|t1c|t1ce|t1gd|t2f|flair|pd|dwi|adc|swi|mr|mri|mra|ct|cta|cect|pet|suv|imaging|image"
MODALITY_AT_END = re.compile(rf"(?:(?P<base>.*)[_.-])?(?:{MODALITY})", re.IGNORECASE)  # case_t1, t1
BIDS_SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")
SESSION = re.compile(r"ses-[A-Za-z0-9]+")
BRATS = re.compile(r"(BraTS-[A-Za-z]+-\d+)-\d{3}", re.IGNORECASE)  # BraTS 2023: patient, then time point
CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")
TEST_PARTS = ("ts",)


class Volume(NamedTuple):
    """A file or DICOM folder of a data set.

    Args:
        image: path relative to the root of the data set.
        label: path of its label map, or None.
        subject: name of the person.
        rule: how the subject was found, for the log.
        is_test: whether it is in a test folder such as imagesTs.
    """

    image: str
    label: str | None
    subject: str
    rule: str
    is_test: bool


def natural_key(path: str) -> tuple[list[str | int], str]:
    """Sorting key with numbers by value: p2 before p10."""
    parts = re.split(r"(\d+)", path.lower())
    return [int(part) if part.isdecimal() else part for part in parts], path


def find_layout(root: str) -> tuple[list[Volume], list[str]]:
    """
    The images below a folder, each with its label map and subject.

    Args:
        root: an existing folder.

    Returns:
        (volumes in natural order, paths of label maps without an image, which are left out).
    """
    paths = sorted(_walk(root), key=natural_key)
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(os.path.dirname(path), []).append(path)
    volumes: list[Volume] = []
    leftover: list[str] = []
    for folder, members in folders.items():
        if _is_folder_of_labels(root, folder):
            continue
        labels = {path: name for path in members if (name := _label_name(path)) is not None}
        images = [path for path in members if path not in labels]
        used: set[str] = set()
        cases = _channel_cases(images, lambda path: _label_beside(root, path) is not None)
        for image in images:
            own = max((path for path, name in labels.items() if _belongs(image, path, name)), key=len, default=None)
            used |= {own} if own else set()
            label = own or _label_beside(root, image) or _label_beside(root, cases.get(image))
            subject, rule = _subject(root, image, labels.get(label or ""), cases.get(image))
            volumes.append(Volume(image, label, subject, rule, _part(image) in TEST_PARTS))
        leftover += [path for path in labels if path not in used]
    return sorted(volumes, key=lambda volume: natural_key(volume.image)), leftover


def stated_subject(root: str, path: str) -> tuple[str, str] | None:
    """(subject, rule) of a file or DICOM folder that says who the person is (DICOM, BIDS, BraTS 2023), or None."""
    folder = os.path.join(root, path)
    if os.path.isdir(folder) and (patient := patient_id(folder)):
        return patient, "DICOM PatientID"
    parts = stem(path).split(os.sep)
    for index, part in enumerate(parts):
        if match := BIDS_SUBJECT.match(part):
            before = parts[:index]
            if "derivatives" in before:  # derivatives/PIPELINE/sub-01 is the person of sub-01
                before = before[: before.index("derivatives")]
            before = [name for name in before if name not in ("rawdata", "sourcedata")]
            return "/".join([*_without_image_folder([*before, ""])[:-1], match.group()]), "sub-* of BIDS"
        if match := BRATS.match(part):
            return match.group(1), "name of BraTS"
        if index and SESSION.fullmatch(part):
            return "/".join(parts[:index]), "folder above ses-*"
    return None


def _walk(root: str) -> Iterator[str]:
    """Relative paths of volume files and DICOM folders.

    Links to folders are followed once. Left out: hidden names, and what an earlier run wrote (`earlier_outputs`).
    """
    seen, outputs, left_out = set(), set(), 0
    for folder, folders, files in os.walk(root, onerror=_raise, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        outputs |= {os.path.normpath(os.path.join(folder, name)) for name in earlier_outputs(folder)}
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


def _image_folder_index(parts: list[str]) -> int | None:
    """Index of the innermost folder named images, imagesTr, ... in the parts of a path."""
    return next((i for i in range(len(parts) - 2, -1, -1) if IMAGE_FOLDER.fullmatch(parts[i])), None)


def _part(path: str) -> str:
    """tr, ts, va or val of the folder imagesTr, imagesTs, ... above an image; otherwise ""."""
    parts = path.split(os.sep)
    index = _image_folder_index(parts)
    match = IMAGE_FOLDER.fullmatch(parts[index]) if index is not None else None
    return (match["part"] or "").lower() if match else ""


def _label_beside(root: str, image: str | None) -> str | None:
    """The label map of the same name in a folder of label maps beside the folder of images."""
    parts = stem(image).split(os.sep) if image else []
    index = _image_folder_index(parts)
    if index is None:
        return None
    part = IMAGE_FOLDER.fullmatch(parts[index])["part"]
    matches = [LABEL_FOLDER.fullmatch(name) for name in sorted(os.listdir(os.path.join(root, *parts[:index])))]
    for name in [match.group() for match in matches if match and match["part"] == part]:
        label = os.path.join(*parts[:index], name, *parts[index + 1 :])
        for suffix in VOLUME_SUFFIXES:
            if os.path.isfile(os.path.join(root, label + suffix)):
                return label + suffix
    return None


def _label_name(path: str) -> str | None:
    """What a label map's name says of its images: their name, "" if it says nothing; None for an image."""
    name = os.path.basename(stem(path))
    if match := LABEL_AT_START.fullmatch(name):
        return match["number"]
    match = LABEL_AT_END.fullmatch(name)
    return (match["base"] or "") if match else None


def _belongs(image: str, label: str, label_name: str) -> bool:
    """Whether an image is that of a label map in its folder: equal names, or a modality follows, or equal numbers."""
    if stem(label).endswith("probseg"):  # probabilities of BIDS, no label map
        return False
    name = os.path.basename(stem(image))
    if label_name.isdecimal() and re.sub(r"^\D+", "", name) == label_name:
        return True
    return label_name in ("", name) or (name.startswith(label_name) and name[len(label_name)] in "_-.")


def _channel_cases(images: Iterable[str], has_label: Callable[[str], bool]) -> dict[str, str]:
    """Image -> path of its case, for the channels case_0000, case_0001 of nnU-Net in one folder; otherwise {}."""
    found = {image: CHANNEL.fullmatch(stem(image)) for image in images}
    cases = {image: match["case"] for image, match in found.items() if match and not has_label(image)}
    first = {match["case"] for match in found.values() if match and match["channel"] == "0000"}
    are_channels = len(cases) == len(found) and set(cases.values()) == first
    several = len(first) > 1 or all(has_label(case) for case in cases.values())
    return cases if are_channels and several else {}


def _subject(root: str, image: str, label_name: str | None, case: str | None) -> tuple[str, str]:
    """(subject, rule) of an image whose label map in the same folder names `label_name`, and of nnU-Net's `case`."""
    if stated := stated_subject(root, image):
        return stated
    if image == os.curdir:
        return os.path.basename(os.path.abspath(root)), "path"
    parts = _without_image_folder(stem(case or image).split(os.sep))
    folder, name = parts[:-1], parts[-1]
    modality = MODALITY_AT_END.fullmatch(name)
    if case:
        return "/".join(parts), "case of nnU-Net"
    if folder and (label_name == "" or _is_case_folder(folder[-1], name)):
        return "/".join(folder), "case folder"
    if label_name and not label_name.isdecimal():
        return "/".join([*folder, label_name]), "name of the label map"
    if modality and modality["base"]:
        return "/".join([*folder, modality["base"]]), "name before the modality"
    return "/".join(parts), "path"


def _is_case_folder(folder: str, name: str) -> bool:
    """Whether a file belongs to a folder of one person: 001/t1, patient001/patient001_frame01."""
    rest = name[len(folder) :] if name.startswith(folder) and re.search(r"\d", folder) else ""
    modality = MODALITY_AT_END.fullmatch(name)
    return bool(modality and not modality["base"]) or bool(re.match(r"[_.-][A-Za-z]", rest))


def _without_image_folder(parts: list[str]) -> list[str]:
    index = _image_folder_index(parts)
    return parts if index is None else parts[:index] + parts[index + 1 :]


def described_rules(rules: Iterable[str]) -> str:
    """Rules for the log, with the number of volumes of each if there are several."""
    counts = Counter(rules)
    return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{rule} for {n}" for rule, n in counts.items())
