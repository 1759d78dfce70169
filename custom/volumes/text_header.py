# SPDX-License-Identifier: Apache-2.0
"""Text headers of NRRD and MetaImage files: fields that ITK replaces by 1 mm or by a standard orientation if absent."""

from __future__ import annotations

import re

from .geometry import VolumeError, warn_once

ITK_SUFFIXES = (".nrrd", ".mha", ".mhd")
MAX_HEADER = 2**20  # bytes
MILLIMETRES = ("mm", "millimeter", "millimetre", "millimeters", "millimetres")
UNKNOWN_UNITS = ("", "?", "???")


def check_text_header(name: str) -> None:
    """
    Check that an NRRD or MetaImage file says how large its voxels are. A file without orientation gets a warning.

    Args:
        name: .nrrd, .mha or .mhd.

    Raises:
        EOFError: the header is incomplete.
        VolumeError: the header has no spacing, or another unit than millimetres.
    """
    if name.lower().endswith(".nrrd"):
        fields = _fields(name, end=rb"\r?\n\r?\n", separator=":")
        spacing, orientation, units = ("space directions", "spacings"), ("space directions",), ("space units", "units")
    else:
        fields = _fields(name, end=rb"ElementDataFile\s*=[^\n]*", separator="=")
        spacing, units = ("elementspacing", "elementsize"), ("distanceunits",)
        orientation = ("transformmatrix", "rotation", "orientation")
    if not any(field in fields for field in spacing) or "nan" in " ".join(fields.get(f, "") for f in spacing).lower():
        raise VolumeError(f"{name}: no voxel spacing in the header, expected the field {' or '.join(spacing)}")
    found = [unit for field in units for unit in _words(fields.get(field, ""))]
    others = [unit for unit in found if unit.lower() not in (*MILLIMETRES, *UNKNOWN_UNITS)]
    if others:
        raise VolumeError(f"{name}: voxel spacing in the unit {others[0]!r}, expected millimetres (mm)")
    if not any(field in fields for field in orientation):
        warn_once(f"{name}: the header has no orientation ({orientation[0]}): left and right are guessed")


def _fields(name: str, end: bytes, separator: str) -> dict[str, str]:
    """Field in lower case -> value, of the lines up to the pattern `end`."""
    with open(name, "rb") as file:
        content = file.read(MAX_HEADER)
    match = re.search(end, content)
    if match is None:
        raise EOFError("the header has no end")
    lines = content[: match.end()].decode("latin-1").splitlines()
    parts = [line.partition(separator) for line in lines if separator in line and not line.startswith("#")]
    return {field.strip().lower(): value.strip() for field, _, value in parts}


def _words(value: str) -> list[str]:
    return re.findall(r'"([^"]*)"', value) or value.split()
