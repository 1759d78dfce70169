# SPDX-License-Identifier: Apache-2.0
"""BIDS (https://bids-specification.readthedocs.io): which files are images, and label maps among the derivatives."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from .names import stem
from .subjects import BIDS_SUBJECT

NO_ANATOMY = ("func", "dwi", "fmap", "perf", "meg", "eeg", "ieeg", "beh", "nirs", "motion", "mrs")  # series and others
OF_LABELS = ("desc", "label", "space", "res", "den", "atlas", "seg")  # entities that an image need not share
SAME_SPACE = ("orig", "native", "individual", "T1w", "T2w", "FLAIR")
SUFFIXES = ("dseg", "seg", "label", "labels", "labelmap")  # of label maps; a mask must say of what


def is_no_anatomy(folder: str) -> bool:
    """Whether a folder below sub-* holds data that are no volumes of anatomy, such as func and dwi."""
    *above, name = folder.split(os.sep)
    return name in NO_ANATOMY and any(BIDS_SUBJECT.fullmatch(part) for part in above)


def derivatives_by_folder(labels: Iterable[str]) -> dict[str | None, list[str]]:
    """The files below `derivatives` by their folder from sub-* on; the key is None for those without such a folder."""
    found: dict[str | None, list[str]] = {}
    for label in labels:
        if "derivatives" in label.split(os.sep):
            found.setdefault(_below_subject(label), []).append(label)
    return found


def derivative_labels(image: str, labels: Mapping[str | None, Sequence[str]]) -> list[str]:
    """
    The label maps of an image among files below `derivatives`.

    A label map lies in the folder of the same subject, session and data type, has the entities of the image, and may
    have more of `OF_LABELS`. It ends in dseg, seg or label, or in mask with the entity label (`label-lesion_mask`;
    a mask of the brain is no label map), and is in the space of the image. If its name has the suffix of an image
    (`sub-01_T1w_dseg`), the image has this suffix.

    Args:
        image: relative path of an image, such as sub-01/anat/sub-01_T1w.nii.gz.
        labels: see `derivatives_by_folder`.
    """
    folder, (entities, suffixes) = _below_subject(image), _parts(image)
    if folder is None or "derivatives" in image.split(os.sep):
        return []
    found = []
    for label in labels.get(folder, []):
        own, words = _parts(label)
        is_label = words[-1:] and (words[-1] in SUFFIXES or (words[-1] == "mask" and "label" in own))
        same = {key: value for key, value in own.items() if key not in OF_LABELS or key in entities} == entities
        if is_label and same and own.get("space", "orig") in SAME_SPACE and words[:-1] in ([], suffixes):
            found.append(label)
    return found


def _below_subject(path: str) -> str | None:
    """The folder of a file from sub-* on, or None."""
    parts = os.path.dirname(path).split(os.sep)
    start = next((index for index, part in enumerate(parts) if BIDS_SUBJECT.fullmatch(part)), None)
    return None if start is None else os.sep.join(parts[start:])


def _parts(path: str) -> tuple[dict[str, str], list[str]]:
    """Entities of a file name and its words without a key: sub-01_T1w -> ({"sub": "01"}, ["T1w"])."""
    parts = os.path.basename(stem(path)).split("_")
    entities = dict(part.split("-", 1) for part in parts if "-" in part)
    return entities, [part for part in parts if "-" not in part]
