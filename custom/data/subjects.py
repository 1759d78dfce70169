# SPDX-License-Identifier: Apache-2.0
"""Who the person of a volume is, by the rules of data sets that state it and by names of files and folders."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable

from ..volumes import patient_id
from .names import MODALITY_AT_END, stem

IMAGE_FOLDER = re.compile(r"images?(?P<part>Tr|Ts|Va|Val)?", re.IGNORECASE)
BIDS_SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")
SESSION = re.compile(r"ses-[A-Za-z0-9]+")
BRATS = re.compile(r"(BraTS-[A-Za-z]+-\d+)-\d{3}", re.IGNORECASE)  # BraTS 2023: patient, then time point
BIDS_RULE, NNUNET_RULE, DICOM_RULE = "sub-* of BIDS", "case of nnU-Net", "DICOM PatientID"


def stated_subject(root: str, path: str) -> tuple[str, str] | None:
    """(subject, rule) of a file or DICOM folder that says who the person is (DICOM, BIDS, BraTS 2023), or None."""
    folder = os.path.join(root, path)
    if os.path.isdir(folder) and (patient := patient_id(folder)):
        return patient, DICOM_RULE
    parts = stem(path).split(os.sep)
    for index, part in enumerate(parts):
        if match := BIDS_SUBJECT.match(part):
            before = parts[:index]
            if "derivatives" in before:  # derivatives/PIPELINE/sub-01 is the person of sub-01
                before = before[: before.index("derivatives")]
            before = [name for name in before if name not in ("rawdata", "sourcedata")]
            return "/".join([*_without_image_folder([*before, ""])[:-1], match.group()]), BIDS_RULE
        if match := BRATS.match(part):
            return match.group(1), "name of BraTS"
        if index and SESSION.fullmatch(part):
            return "/".join(parts[:index]), "folder above ses-*"
    return None


def subject_of(root: str, image: str, label_name: str | None, case: str | None) -> tuple[str, str]:
    """(subject, rule) of an image.

    Args:
        root: folder of the data set.
        image: path below it.
        label_name: the name of the image in that of the label map in its folder, "" if that says nothing, or None.
        case: path of nnU-Net's case, or None.
    """
    if stated := stated_subject(root, image):
        return stated
    if image == os.curdir:
        return os.path.basename(os.path.abspath(root)), "path"
    parts = _without_image_folder(stem(case or image).split(os.sep))
    folder, name = parts[:-1], parts[-1]
    modality = MODALITY_AT_END.fullmatch(name)
    if case:
        return "/".join(parts), NNUNET_RULE
    if folder and (label_name == "" or _is_case_folder(folder[-1], name)):
        return "/".join(folder), "case folder"
    if label_name and not label_name.isdecimal():
        return "/".join([*folder, label_name]), "name of the label map"
    if modality and modality["base"]:
        return "/".join([*folder, modality["base"]]), "name before the modality"
    return "/".join(parts), "path"


def image_folder_index(parts: list[str]) -> int | None:
    """Index of the innermost folder named images, imagesTr, ... in the parts of a path."""
    return next((i for i in range(len(parts) - 2, -1, -1) if IMAGE_FOLDER.fullmatch(parts[i])), None)


def described_rules(rules: Iterable[str]) -> str:
    """Rules for the log, with the number of volumes of each if there are several."""
    counts = Counter(rules)
    return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{rule} for {n}" for rule, n in counts.items())


def _is_case_folder(folder: str, name: str) -> bool:
    """Whether a file belongs to a folder of one person: 001/t1, patient001/patient001_frame01."""
    rest = name[len(folder) :] if name.startswith(folder) and re.search(r"\d", folder) else ""
    modality = MODALITY_AT_END.fullmatch(name)
    return bool(modality and not modality["base"]) or bool(re.match(r"[_.-][A-Za-z]", rest))


def _without_image_folder(parts: list[str]) -> list[str]:
    index = image_folder_index(parts)
    return parts if index is None else parts[:index] + parts[index + 1 :]
