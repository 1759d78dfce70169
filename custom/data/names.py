# SPDX-License-Identifier: Apache-2.0
"""What names of volumes say: their order, their suffix, and which channel of which case a file is."""

from __future__ import annotations

import os
import re

from ..volumes import VOLUME_SUFFIXES, Image, paths_of

MODALITY = "t1|t2|t1w|t2w|t1n|t1c|t1ce|t1gd|t2f|flair|pd|dwi|adc|swi|mr|mri|mra|ct|cta|cect|pet|suv"
MODALITY += "|imaging|image|img|volume|vol"
MODALITY_AT_END = re.compile(rf"(?:(?P<base>.*)[_.-])?(?P<channel>{MODALITY})", re.IGNORECASE)  # case_t1, t1
NUMBER_AT_END = re.compile(r"(?P<base>.+)_(?P<channel>\d{4})")  # case_0001 of nnU-Net


def natural_key(path: str) -> tuple[list[str | int], str]:
    """Sorting key with numbers by value: p2 before p10."""
    parts = re.split(r"(\d+)", path.lower())
    return [int(part) if part.isdecimal() else part for part in parts], path


def stem(path: str) -> str:
    """A path without the suffix of volumes."""
    suffix = max((suffix for suffix in VOLUME_SUFFIXES if path.lower().endswith(suffix)), key=len, default="")
    return path[: len(path) - len(suffix)]


def numbered_channel(path: str) -> tuple[str, str] | None:
    """(case, channel) of a file such as folder/case_0001.nii.gz of nnU-Net: ("folder/case", "0001"); otherwise None."""
    match = NUMBER_AT_END.fullmatch(stem(path))
    return (match["base"], match["channel"]) if match else None


def modality_channel(path: str) -> tuple[str, str] | None:
    """(case, channel) of a file with the name of a modality: folder/case_t1.nii or folder/t1.nii; otherwise None."""
    folder, name = os.path.split(stem(path))
    match = MODALITY_AT_END.fullmatch(name)
    case = os.path.join(folder, match["base"]) if match and match["base"] else folder
    return (case, match["channel"].lower()) if match else None


def case_path(image: Image) -> str:
    """Path of an image without suffix; of several files without the channel as well: folder/case."""
    paths = paths_of(image)
    channel = numbered_channel(paths[0]) or modality_channel(paths[0]) if len(paths) > 1 else None
    return channel[0] if channel else stem(paths[0])
