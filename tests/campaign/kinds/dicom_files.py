# SPDX-License-Identifier: Apache-2.0
"""Small DICOM files, tag by tag: Explicit VR Little Endian."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .kind import SPACING
from .volumes import body

CT, ENHANCED_CT, STRUCTURES = (f"1.2.840.10008.5.1.4.1.1.{part}" for part in ("2", "2.1", "481.3"))
EXPLICIT, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.70"
LONG = ("OB", "OW", "SQ", "UN")  # value representations with a length of four bytes
Tags = dict[tuple[int, int], tuple[str, Any]]  # tag -> (value representation, value); None leaves the tag out


def element(tag: tuple[int, int], kind: str, value: Any) -> bytes:
    """The bytes of one data element; the value of "SQ" is a list of `Tags`."""
    if kind == "US":
        content = struct.pack("<H", value)
    elif kind == "SQ":
        items = [encoded(item) for item in value]
        content = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
    else:
        content = value if isinstance(value, bytes) else str(value).encode()
    content += (b"\0" if kind in ("UI", "OB", "OW") else b" ") * (len(content) % 2)
    length = struct.pack("<HI", 0, len(content)) if kind in LONG else struct.pack("<H", len(content))
    return struct.pack("<HH", *tag) + kind.encode() + length + content


def encoded(tags: Tags) -> bytes:
    """The bytes of all elements in the order of their tags."""
    return b"".join(element(tag, *entry) for tag, entry in sorted(tags.items()) if entry is not None)


def write(path: Path, tags: Tags, syntax: str = EXPLICIT) -> Path:
    """Writes a DICOM file."""
    of_file = {(2, 2): ("UI", tags[8, 0x16][1]), (2, 3): ("UI", tags[8, 0x18][1]), (2, 0x10): ("UI", syntax)}
    head = encoded(of_file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(128) + b"DICM" + element((2, 0), "UL", struct.pack("<I", len(head))) + head + encoded(tags))
    return path


def slice_tags(number: int) -> Tags:
    """The tags of an axial slice of `body`."""
    array = body()[..., number].T
    return {
        (8, 0x16): ("UI", CT),
        (8, 0x18): ("UI", f"1.2.3.4.{number + 1}"),
        (8, 0x21): ("DA", "20200101"),
        (8, 0x60): ("CS", "CT"),
        (0x10, 0x20): ("LO", "P"),
        (0x18, 0x50): ("DS", f"{SPACING[2]:g}"),
        (0x20, 0xD): ("UI", "1.2.3"),
        (0x20, 0xE): ("UI", "1.2.3.4"),
        (0x20, 0x13): ("IS", number + 1),
        (0x20, 0x32): ("DS", f"0\\0\\{SPACING[2] * number:g}"),
        (0x20, 0x37): ("DS", r"1\0\0\0\1\0"),
        (0x28, 2): ("US", 1),
        (0x28, 4): ("CS", "MONOCHROME2"),
        (0x28, 0x10): ("US", array.shape[0]),
        (0x28, 0x11): ("US", array.shape[1]),
        (0x28, 0x30): ("DS", rf"{SPACING[0]:g}\{SPACING[1]:g}"),
        (0x28, 0x100): ("US", 16),
        (0x28, 0x101): ("US", 16),
        (0x28, 0x102): ("US", 15),
        (0x28, 0x103): ("US", 1),
        (0x28, 0x1052): ("DS", "0"),
        (0x28, 0x1053): ("DS", "1"),
        (0x7FE0, 0x10): ("OW", array.tobytes()),
    }


def series(folder: Path, change: Callable[[int, Tags], Any] = lambda number, tags: None, slices: int = 14) -> Path:
    """Writes a CT series of `body`, 000.dcm and so on; `change(number, tags)` spoils the tags of a slice."""
    for number in range(slices):
        tags = slice_tags(number)
        change(number, tags)
        write(folder / f"{number:03}.dcm", tags)
    return folder


def with_tags(changes: Mapping[tuple[int, int], Any], only: int | None = None) -> Callable[[Path], Path]:
    """A function that writes a series in which all slices, or one, have other values; None leaves a tag out."""

    def change(number: int, tags: Tags) -> None:
        if only is None or number == only:
            for tag, value in changes.items():
                tags[tag] = value if value is None else (tags.get(tag, ("DS",))[0], value)

    return lambda path: series(path, change)


def multi_frame(path: Path, positions: list[float | None]) -> Path:
    """Writes a folder with one enhanced CT of a frame at each z in mm; None has no geometry."""

    def frame(z: float) -> Tags:
        return {
            (0x20, 0x9113): ("SQ", [{(0x20, 0x32): ("DS", f"0\\0\\{z:g}")}]),
            (0x20, 0x9116): ("SQ", [{(0x20, 0x37): ("DS", r"1\0\0\0\1\0")}]),
            (0x28, 0x9110): ("SQ", [{(0x18, 0x50): ("DS", "6"), (0x28, 0x30): ("DS", r"6\6")}]),
        }

    count = len(positions)
    tags = slice_tags(0) | {(0x20, 0x32): None, (0x20, 0x37): None, (0x28, 0x30): None, (0x18, 0x50): None}
    tags |= {(8, 0x16): ("UI", ENHANCED_CT), (0x28, 8): ("IS", count)}
    tags[0x7FE0, 0x10] = ("OW", body()[..., :count].T.tobytes())
    if None not in positions:
        tags[0x5200, 0x9230] = ("SQ", [frame(z) for z in positions])
    write(path / "frames.dcm", tags)
    return path


def structure_set(path: Path) -> Path:
    """Writes an RTSTRUCT, which has no pixels."""
    identity = {(8, 0x16): ("UI", STRUCTURES), (8, 0x18): ("UI", "1.9.1"), (8, 0x60): ("CS", "RTSTRUCT")}
    return write(path, identity | {(0x20, 0xE): ("UI", "1.9")})
