# SPDX-License-Identifier: Apache-2.0
"""Text headers of NRRD and MetaImage files: fields that ITK replaces by 1 mm or by a standard orientation if absent."""

from __future__ import annotations

import math
import os
import re

from .geometry import VolumeError, warn_once

ITK_SUFFIXES = (".nrrd", ".mha", ".mhd")
MAX_HEADER = 2**20  # bytes
MILLIMETRES = ("mm", "millimeter", "millimetre", "millimeters", "millimetres")
UNKNOWN_UNITS = ("", "?", "???")
BYTES = {  # of a number of the pixel types of NRRD, as ITK and pynrrd write them, and of MetaImage
    1: ("signed char", "unsigned char", "uchar", "int8", "uint8", "met_char", "met_uchar"),
    2: ("short", "unsigned short", "ushort", "int16", "uint16", "met_short", "met_ushort"),
    4: ("int", "unsigned int", "uint", "int32", "uint32", "float", "met_int", "met_uint", "met_float"),
    8: ("int64", "uint64", "double", "met_long_long", "met_ulong_long", "met_double"),
}
SIZE_OF = {name: size for size, names in BYTES.items() for name in names}


def check_text_header(name: str) -> None:
    """
    Check that an NRRD or MetaImage file says how large its voxels are. A file without orientation gets a warning.

    Args:
        name: .nrrd, .mha or .mhd.

    Raises:
        EOFError: the header is incomplete.
        VolumeError: the header has no spacing, or another unit than millimetres.
    """
    fields, _ = _fields(name)
    if name.lower().endswith(".nrrd"):
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


def is_complete(name: str) -> bool:
    """Whether sizes prove that an NRRD or MetaImage file holds all voxels; False if only reading it can tell."""
    fields, data_start = _fields(name)
    is_nrrd = name.lower().endswith(".nrrd")
    sizes, pixel_type = (
        fields.get(field, "") for field in (("sizes", "type") if is_nrrd else ("dimsize", "elementtype"))
    )
    data_file = fields.get("data file", fields.get("datafile", "")) if is_nrrd else fields["elementdatafile"]
    if data_file not in ("", "LOCAL"):
        data_start, name = 0, os.path.join(os.path.dirname(name), data_file)
    if pixel_type.lower() not in SIZE_OF or "byte skip" in fields or "headersize" in fields or not os.path.isfile(name):
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


def _fields(name: str) -> tuple[dict[str, str], int]:
    """(field in lower case -> value, number of bytes) of the header of a file."""
    is_nrrd = name.lower().endswith(".nrrd")
    end, separator = (rb"\r?\n\r?\n", ":") if is_nrrd else (rb"ElementDataFile\s*=[^\n]*\n?", "=")
    with open(name, "rb") as file:
        content = file.read(MAX_HEADER)
    match = re.search(end, content)
    if match is None:
        raise EOFError("the header has no end")
    lines = content[: match.end()].decode("latin-1").splitlines()
    parts = [line.partition(separator) for line in lines if separator in line and not line.startswith("#")]
    return {field.strip().lower(): value.strip() for field, _, value in parts}, match.end()


def _words(value: str) -> list[str]:
    return re.findall(r'"([^"]*)"', value) or value.split()
