# SPDX-License-Identifier: Apache-2.0
"""Text headers of NRRD and MetaImage: where the voxels lie, and the geometry, which ITK makes up where it is absent."""

from __future__ import annotations

import glob
import math
import os
import re
from contextlib import suppress
from pathlib import Path

from .geometry import VolumeError, warn_once

ITK_SUFFIXES = (".nrrd", ".mha", ".mhd")
DETACHED = (".mhd", ".nhdr", ".nrrd")  # headers whose voxels may lie in other files
NRRD = (".nrrd", ".nhdr")
MAX_HEADER = 2**20  # bytes
DATA_FILE = re.compile(r"^\s*(?:ElementDataFile\s*=|data ?file\s*:)[ \t]*([^\n]*)\n?", re.IGNORECASE | re.MULTILINE)
MILLIMETRES = ("mm", "millimeter", "millimetre", "millimeters", "millimetres")
UNKNOWN_UNITS = ("", "?", "???")
ANATOMICAL = re.compile(r"((right|left)-anterior|left-posterior)-superior(-time)?|(RAS|LAS|LPS)T?", re.IGNORECASE)
BYTES = {  # of a number of the pixel types of NRRD, as ITK and pynrrd write them, and of MetaImage
    1: ("signed char", "unsigned char", "uchar", "int8", "uint8", "met_char", "met_uchar"),
    2: ("short", "unsigned short", "ushort", "int16", "uint16", "met_short", "met_ushort"),
    4: ("int", "unsigned int", "uint", "int32", "uint32", "float", "met_int", "met_uint", "met_float"),
    8: ("int64", "uint64", "double", "met_long_long", "met_ulong_long", "met_double"),
}
SIZE_OF = {name: size for size, names in BYTES.items() for name in names}


def check_text_header(name: str) -> None:
    """
    Check that an NRRD or MetaImage file says how large its voxels are.

    A file without orientation, or an NRRD file whose space is not anatomical (scanner-xyz), gets a warning.

    Args:
        name: .nrrd, .mha or .mhd.

    Raises:
        EOFError: the header is incomplete.
        VolumeError: the header has no spacing, or another unit than millimetres.
    """
    fields, _, _ = _header(name)
    if name.lower().endswith(NRRD):
        spacing, orientation, units = ("space directions", "spacings"), ("space directions",), ("space units", "units")
    else:
        spacing, units = ("elementspacing", "elementsize"), ("distanceunits",)
        orientation = ("transformmatrix", "rotation", "orientation")
    if not any(field in fields for field in spacing) or "nan" in " ".join(fields.get(f, "") for f in spacing).lower():
        raise VolumeError(f"{name}: no voxel spacing in the header, expected the field {' or '.join(spacing)}")
    sizes = fields.get(spacing[0], "")
    if spacing[0] == "space directions" and "none" in sizes and sizes.count("(") < 3:
        raise VolumeError(f"{name}: no voxel spacing in the space directions {sizes}, expected three vectors")
    if spacing[0] == "elementspacing" and any(float(size) <= 0 for size in sizes.split()):
        raise VolumeError(f"{name}: voxel spacing ElementSpacing {sizes}, expected spacing above zero")
    found = [unit for field in units for unit in _words(fields.get(field, ""))]
    others = [unit for unit in found if unit.lower() not in (*MILLIMETRES, *UNKNOWN_UNITS)]
    if others:
        raise VolumeError(f"{name}: voxel spacing in the unit {others[0]!r}, expected millimetres (mm)")
    if not any(field in fields for field in orientation):
        warn_once(f"{name}: the header has no orientation ({orientation[0]}): left and right are guessed")
    elif name.lower().endswith(NRRD) and not ANATOMICAL.fullmatch(space := fields.get("space", "absent")):
        warn_once(
            f"{name}: the space is {space}, expected an anatomical one such as left-posterior-superior: left and right "
            "are guessed"
        )


def data_files(name: str) -> list[str]:
    """Paths of the files, present or missing, that a header names for its voxels; empty if these follow the header.

    Args:
        name: any file; one that is no NRRD or MetaImage header names none.
    """
    if name.lower().endswith(DETACHED):
        with suppress(EOFError):  # see `check_text_header`
            return _header(name)[2]
    return []


def is_complete(name: str) -> bool:
    """Whether sizes prove that an NRRD or MetaImage file holds all voxels; False if only reading it can tell."""
    fields, data_start, other_files = _header(name)
    is_nrrd = name.lower().endswith(NRRD)
    sizes, pixel_type = (
        fields.get(field, "") for field in (("sizes", "type") if is_nrrd else ("dimsize", "elementtype"))
    )
    if other_files:
        data_start, name = 0, other_files[0]
    if pixel_type.lower() not in SIZE_OF or "byte skip" in fields or "headersize" in fields:
        return False
    if len(other_files) > 1 or not os.path.isfile(name):
        return False
    channels = int(fields.get("elementnumberofchannels", 1))
    needed = math.prod(int(size) for size in sizes.split()) * channels * SIZE_OF[pixel_type.lower()]
    stored = os.path.getsize(name) - data_start
    if is_nrrd and fields.get("encoding") in ("gzip", "gz"):  # the stream ends with the size of its content
        with open(name, "rb") as file:
            file.seek(-4, os.SEEK_END)
            return int.from_bytes(file.read(4), "little") == needed % 2**32
    if fields.get("compresseddata", "false").lower() == "true":
        return stored >= int(fields.get("compresseddatasize", 2**62))
    return fields.get("encoding", "raw") == "raw" and stored >= needed


def _header(name: str) -> tuple[dict[str, str], int, list[str]]:
    """The fields of a header (name in lower case -> value), its length in bytes, and the files with the voxels.

    Raises:
        EOFError: the header is incomplete.
    """
    is_nrrd = name.lower().endswith(NRRD)
    with open(name, "rb") as file:
        text = file.read(MAX_HEADER).decode("latin-1")  # a character for each byte
    blank_line = re.search(r"\r?\n\r?\n", text) if is_nrrd else None
    if blank_line:
        text = text[: blank_line.end()]
    named = DATA_FILE.search(text)
    if not (blank_line or named):
        raise EOFError("the header has no end")
    length = len(text) if is_nrrd else named.end()
    separator = ":" if is_nrrd else "="
    lines = text[:length].split("\n")  # splitlines takes bytes of UTF-8 for ends of lines
    parts = [line.partition(separator) for line in lines if separator in line and not line.startswith("#")]
    fields = {field.strip().lower(): value.strip() for field, _, value in parts}
    other_files = _named_files(Path(name).parent, named[1].strip(), text[named.end() :]) if named else []
    return fields, length, other_files


def _named_files(folder: Path, value: str, next_lines: str) -> list[str]:
    """The files of a field: one, a list in the next lines, or a pattern such as slice%03d.raw 1 90 1."""
    if value.upper() in ("", "LOCAL"):
        return []
    if value.upper().startswith("LIST"):
        return [str(folder / _in_file_system(line.strip())) for line in next_lines.split("\n") if line.strip()]
    value = _in_file_system(value)
    pattern = re.sub(r"(\s+-?\d+)*$", "", value)  # without first number, last number and step
    found = folder.glob(re.sub(r"%\d*[dui]", "*", glob.escape(pattern))) if "%" in value else ()
    return [str(path) for path in found] or [str(folder / value)]


def _in_file_system(name: str) -> str:
    """The name of a file as Python opens it, from a character for each byte."""
    return os.fsdecode(name.encode("latin-1"))


def _words(value: str) -> list[str]:
    return re.findall(r'"([^"]*)"', value) or value.split()
