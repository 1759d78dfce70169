# SPDX-License-Identifier: Apache-2.0
"""DICOM folders that hold no series, several, or a damaged one."""

from __future__ import annotations

from pathlib import Path

from .dicom_files import Tags, multi_frame, series, slice_tags, structure_set, with_tags, write
from .kind import Kind
from .nifti import UNREADABLE
from .readers import volume_kind
from .volumes import body, cut

POSITION, ORIENTATION, PIXEL_SPACING, PIXELS = (0x20, 0x32), (0x20, 0x37), (0x28, 0x30), (0x7FE0, 0x10)
SERIES, DATE, THICKNESS, ROWS = (0x20, 0xE), (8, 0x21), (0x18, 0x50), (0x28, 0x10)


def two_series(path: Path) -> None:
    """The second half of the slices names another series."""

    def change(number: int, tags: Tags) -> None:
        if number > 6:
            tags[SERIES] = ("UI", "1.2.3.5")

    series(path, change)


def without(path: Path, number: int) -> None:
    """A series without one slice."""
    (series(path) / f"{number:03}.dcm").unlink()


def twice(path: Path) -> None:
    """A series with two slices at one position."""
    series(path)
    write(path / "again.dcm", slice_tags(5) | {(8, 0x18): ("UI", "1.2.3.4.99")})


def tilted(number: int, tags: Tags) -> None:
    tags[POSITION] = ("DS", f"0\\{2 * number}\\{6 * number}")


def halves(tag: tuple[int, int], value: str):
    """A function that writes a series whose second half has another value of a tag."""

    def change(number: int, tags: Tags) -> None:
        if number > 6:
            tags[tag] = (tags[tag][0], value)

    return lambda path: series(path, change)


def smaller_slice(number: int, tags: Tags) -> None:
    if number == 5:
        tags[ROWS], tags[PIXELS] = ("US", 8), ("OW", body()[:, :8, 5].T.tobytes())


def colored(number: int, tags: Tags) -> None:
    tags |= {(0x28, 2): ("US", 3), (0x28, 4): ("CS", "RGB"), (0x28, 6): ("US", 0), (0x28, 0x103): ("US", 0)}
    tags |= {(0x28, 0x100): ("US", 8), (0x28, 0x101): ("US", 8), (0x28, 0x102): ("US", 7)}
    tags[PIXELS] = ("OW", bytes(16 * 15 * 3))


def constant(number: int, tags: Tags) -> None:
    tags[PIXELS] = ("OW", bytes(2 * 16 * 15))


def compressed(path: Path) -> None:
    """A series that says it is JPEG, with bytes that are none."""
    for number in range(14):
        write(path / f"{number:03}.dcm", slice_tags(number) | {PIXELS: ("OB", b"junk" * 20)}, "1.2.840.10008.1.2.4.70")


KINDS: list[Kind] = [
    volume_kind("two series in a folder", "scan", "heart", two_series, "2 DICOM series"),
    volume_kind("two series in a folder of training", "scan", "pretrain", two_series, "2 DICOM series"),
    volume_kind("a slice is missing", "scan", "features", lambda path: without(path, 5), "missing|steps"),
    volume_kind("a slice is there twice", "scan", "coronary", twice, "double|steps"),
    volume_kind("tilted gantry", "scan", "covid", lambda path: series(path, tilted), "tilted|steps"),
    volume_kind("truncated slice", "scan", "pretrain", lambda path: cut(series(path) / "003.dcm"), r"003\.dcm"),
    volume_kind("slice of a few bytes", "scan", "brain", lambda path: cut(series(path) / "003.dcm", 0.02), r"003\.dcm"),
    volume_kind(
        "text called .dcm",
        "scan",
        "heart training",
        lambda path: (series(path) / "note.dcm").write_text("a note " * 40),
        r"note\.dcm",
    ),
    volume_kind("DICOM without PixelSpacing", "scan", "heart", with_tags({PIXEL_SPACING: None}), "spacing"),
    volume_kind(
        "DICOM without PixelSpacing in training", "scan", "pretrain", with_tags({PIXEL_SPACING: None}), "spacing"
    ),
    volume_kind("DICOM with a PixelSpacing of zero", "scan", "moving", with_tags({PIXEL_SPACING: r"0\0"}), "spacing"),
    volume_kind(
        "DICOM with words as PixelSpacing",
        "scan",
        "features",
        with_tags({PIXEL_SPACING: r"six\six"}),
        "spacing|cannot be read",
    ),
    volume_kind("DICOM with a PixelSpacing of 600 mm", "scan", "fixed", with_tags({PIXEL_SPACING: r"600\600"}), "600"),
    volume_kind("DICOM without positions", "scan", "coronary", with_tags({POSITION: None}), "position"),
    volume_kind("DICOM without orientation", "scan", "brain training", with_tags({ORIENTATION: None}), "orientation"),
    volume_kind(
        "one slice of another orientation",
        "scan",
        "coronary",
        with_tags({ORIENTATION: r"0\1\0\1\0\0"}, only=5),
        "orientation|series",
    ),
    volume_kind(
        "one slice of another size",
        "scan",
        "covid",
        lambda path: series(path, smaller_slice),
        "size|shape|series|cannot be read|rows",
    ),
    volume_kind("one slice alone", "scan", "features", lambda path: series(path, slices=1), "2D|1 slice|one slice"),
    volume_kind("slices without pixels", "scan", "heart", with_tags({PIXELS: None}), "pixel|cannot be read"),
    volume_kind("colored slices", "scan", "moving", lambda path: series(path, colored), "channels|RGB|color"),
    volume_kind("constant slices", "scan", "cached", lambda path: series(path, constant), "constant"),
    volume_kind("slices that are no JPEG", "scan", "brain", compressed, UNREADABLE),
    volume_kind(
        "structure set alone", "scan", "coronary", lambda path: structure_set(path / "RS.dcm"), "RTSTRUCT|pixel"
    ),
    volume_kind("one series of two dates", "scan", "pretrain", halves(DATE, "20200102"), "0008[,|]0021|SeriesDate"),
    volume_kind("one series of two thicknesses", "scan", "heart", halves(THICKNESS, "5"), "0018[,|]0050|thickness"),
    volume_kind(
        "frames with a hole",
        "scan",
        "features",
        lambda path: multi_frame(path, [6.0 * z for z in (0, 1, 2, 5, 6, 7)]),
        "frame|steps|missing",
    ),
    volume_kind(
        "frames without geometry",
        "scan",
        "heart",
        lambda path: multi_frame(path, [None] * 6),
        "frame|spacing|position|geometry",
    ),
    volume_kind("folder without DICOM", "scan", "fixed", lambda path: path.mkdir(), "no DICOM|0 volumes"),
    volume_kind(
        "DICOMDIR alone", "scan", "moving", lambda path: write(path / "DICOMDIR", slice_tags(0)), "no DICOM|0 volumes"
    ),
]
