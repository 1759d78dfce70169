# SPDX-License-Identifier: Apache-2.0
"""NRRD and MetaImage files that are damaged, or hold no usable volume."""

from __future__ import annotations

import re
from pathlib import Path

import itk
import numpy as np

from .kind import Kind
from .nifti import UNREADABLE, spoiled
from .readers import volume_kind
from .volumes import SHAPE, body, by_itk, cut, replaced


def without_line(path: Path, beginning: str) -> Path:
    """Removes the line of a header that begins so."""
    content = path.read_bytes()
    changed = re.sub(rb"(?m)^" + beginning.encode() + rb"[^\n]*\n", b"", content, count=1)
    assert changed != content, beginning
    path.write_bytes(changed)
    return path


def detached(path: Path, damage: str) -> None:
    """A .mhd with a .raw file that is "cut", "absent" or "elsewhere"."""
    by_itk(path, body())
    raw = path.with_suffix(".raw")
    if damage == "cut":
        cut(raw)
    elif damage == "absent":
        raw.unlink()
    else:
        replaced(path, raw.name, "elsewhere/volume.raw")


def time_series(path: Path) -> None:
    """Three volumes as one 4D NRRD."""
    itk.imwrite(itk.image_from_array(np.stack([body(n).T for n in range(3)]).astype(np.float32)), str(path))


def vectors(path: Path) -> None:
    """A vector of three numbers in each voxel."""
    array = np.stack([body(n).T for n in range(3)], -1).astype(np.float32)
    itk.imwrite(itk.image_from_array(array, is_vector=True), str(path))


def nrrd_words(path: Path, old: str, new: str) -> None:
    replaced(by_itk(path, body()), old, new)


def header_of(path: Path, data_file: str) -> None:
    """A detached NRRD header whose data file is missing."""
    path.write_text(
        "NRRD0004\ntype: short\ndimension: 3\nsizes: 16 15 14\nspacings: 6 6 6\nendian: little\nencoding: raw\n"
        f"data file: {data_file}\n"
    )


def without_spacing(path: Path) -> None:
    """A NRRD with sizes and voxels alone."""
    path.write_bytes(
        b"NRRD0004\ntype: short\ndimension: 3\nsizes: 16 15 14\nendian: little\nencoding: raw\n\n" + body().T.tobytes()
    )


KINDS: list[Kind] = [
    volume_kind("truncated NRRD", "bad.nrrd", "pretrain", lambda path: cut(by_itk(path, body())), UNREADABLE),
    volume_kind("empty NRRD", "bad.nrrd", "heart", lambda path: path.write_bytes(b""), UNREADABLE),
    volume_kind("text called .nrrd", "bad.nrrd", "moving", lambda path: path.write_text("a text " * 99), UNREADABLE),
    volume_kind(
        "another magic word in NRRD",
        "bad.nrrd",
        "covid",
        lambda path: nrrd_words(path, "NRRD000", "NRRX000"),
        UNREADABLE,
    ),
    volume_kind(
        "unknown encoding in NRRD",
        "bad.nrrd",
        "features",
        lambda path: nrrd_words(path, "encoding: raw", "encoding: rar"),
        UNREADABLE,
    ),
    volume_kind(
        "unknown type in NRRD",
        "bad.nrrd",
        "brain",
        lambda path: nrrd_words(path, "type: short", "type: shirt"),
        UNREADABLE,
    ),
    volume_kind(
        "NRRD header without its data file",
        "bad.nrrd",
        "coronary",
        lambda path: header_of(path, "absent.raw"),
        UNREADABLE,
    ),
    volume_kind("NRRD without spacing", "bad.nrrd", "heart", without_spacing, "spacing"),
    volume_kind("NRRD without spacing in training", "bad.nrrd", "pretrain", without_spacing, "spacing"),
    volume_kind(
        "NRRD with directions of zero",
        "bad.nrrd",
        "fixed",
        lambda path: nrrd_words(path, "(6,0,0)", "(0,0,0)"),
        UNREADABLE + "|spacing|singular",
    ),
    volume_kind(
        "NRRD with two equal directions",
        "bad.nrrd",
        "heart training",
        lambda path: nrrd_words(path, "(6,0,0)", "(0,6,0)"),
        UNREADABLE + "|singular",
    ),
    volume_kind(
        "NRRD with directions of none",
        "bad.nrrd",
        "features",
        lambda path: nrrd_words(path, "(6,0,0) (0,6,0) (0,0,6)", "none none none"),
        UNREADABLE + "|spacing",
    ),
    volume_kind("2D NRRD", "bad.nrrd", "brain training", lambda path: by_itk(path, body()[..., 0]), "2D"),
    volume_kind("4D NRRD", "bad.nrrd", "evaluate", time_series, "4D|time points"),
    volume_kind("NaN in NRRD", "bad.nrrd", "cached", lambda path: by_itk(path, spoiled(np.nan)), "1 NaN"),
    volume_kind(
        "spacing of 600 mm in NRRD",
        "bad.nrrd",
        "covid",
        lambda path: nrrd_words(path, "(6,0,0) (0,6,0) (0,0,6)", "(600,0,0) (0,600,0) (0,0,600)"),
        "600",
    ),
    volume_kind("truncated MetaImage", "bad.mha", "pretrain", lambda path: cut(by_itk(path, body())), UNREADABLE),
    volume_kind("text called .mha", "bad.mha", "features", lambda path: path.write_text("a text " * 99), UNREADABLE),
    volume_kind(
        "MetaImage without ElementSpacing",
        "bad.mha",
        "heart",
        lambda path: without_line(by_itk(path, body()), "ElementSpacing"),
        "spacing",
    ),
    volume_kind(
        "MetaImage without DimSize",
        "bad.mha",
        "brain",
        lambda path: without_line(by_itk(path, body()), "DimSize"),
        UNREADABLE + "|DimSize",
    ),
    volume_kind(
        "MetaImage with a spacing of zero",
        "bad.mha",
        "moving",
        lambda path: replaced(by_itk(path, body()), "ElementSpacing = 6 6 6", "ElementSpacing = 0 6 6"),
        UNREADABLE + "|spacing",
    ),
    volume_kind(
        "MetaImage with a negative spacing",
        "bad.mha",
        "coronary",
        lambda path: replaced(by_itk(path, body()), "ElementSpacing = 6 6 6", "ElementSpacing = -6 6 6"),
        UNREADABLE + "|spacing",
    ),
    volume_kind(
        "MetaImage with a singular matrix",
        "bad.mha",
        "fixed",
        lambda path: replaced(by_itk(path, body()), "= 1 0 0 0 1", "= 1 0 0 1 0"),
        UNREADABLE + "|singular|determinant",
    ),
    volume_kind("vectors in MetaImage", "bad.mha", "covid", vectors, "3 channels"),
    volume_kind("2D MetaImage", "bad.mha", "heart training", lambda path: by_itk(path, body()[..., 0]), "2D"),
    volume_kind(
        "constant MetaImage",
        "bad.mha",
        "coronary training",
        lambda path: by_itk(path, np.full(SHAPE, 7, np.int16)),
        "constant",
    ),
    volume_kind(".mhd without its .raw", "bad.mhd", "pretrain", lambda path: detached(path, "absent"), UNREADABLE),
    volume_kind(".mhd with half of its .raw", "bad.mhd", "heart", lambda path: detached(path, "cut"), UNREADABLE),
    volume_kind(".mhd of a .raw elsewhere", "bad.mhd", "cached", lambda path: detached(path, "elsewhere"), UNREADABLE),
    volume_kind(
        "truncated .mhd", "bad.mhd", "features", lambda path: cut(by_itk(path, body())), UNREADABLE + "|header|spacing"
    ),
]
