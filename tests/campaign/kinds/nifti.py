# SPDX-License-Identifier: Apache-2.0
"""NIfTI files that are damaged, or hold no usable volume."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from .kind import Kind, kind
from .readers import pretrain, volume_kind
from .volumes import AFFINE, SHAPE, body, cut, nifti

UNREADABLE = "cannot be read|unreadable|truncated|damaged"


def spoiled(value: float, where: object = (3, 4, 5)) -> np.ndarray:
    """`body` as float32 with a value in some voxels."""
    array = body().astype(np.float32)
    array[where] = value
    return array


def scaled(factor: float) -> np.ndarray:
    """`AFFINE` with other voxel sizes."""
    return AFFINE @ np.diag([factor, factor, factor, 1.0])


def junk(path: Path) -> None:
    """A gzip file with a wrong checksum."""
    nifti(path, body())
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF
    path.write_bytes(bytes(content))


RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
ZERO_AXIS = {"pixdim": [1, 0, 6, 6, 1, 1, 1, 1], "sform_code": 0, "qform_code": 0}
NAN_AXIS = {"pixdim": [1, np.nan, 6, 6, 1, 1, 1, 1], "sform_code": 0, "qform_code": 1}

KINDS: list[Kind] = [
    volume_kind("truncated .nii.gz", "bad.nii.gz", "pretrain", lambda path: cut(nifti(path, body())), UNREADABLE),
    volume_kind("truncated .nii", "bad.nii", "features", lambda path: cut(nifti(path, body())), UNREADABLE),
    volume_kind("header alone", "bad.nii", "brain", lambda path: cut(nifti(path, body()), 0.02), UNREADABLE),
    volume_kind("empty .nii.gz", "bad.nii.gz", "heart", lambda path: path.write_bytes(b""), UNREADABLE),
    volume_kind("empty .nii", "bad.nii", "covid", lambda path: path.write_bytes(b""), UNREADABLE),
    volume_kind(
        "gzip of a text", "bad.nii.gz", "evaluate", lambda path: path.write_bytes(gzip.compress(b"x" * 999)), UNREADABLE
    ),
    volume_kind("text called .nii", "bad.nii", "moving", lambda path: path.write_text("a text " * 99), UNREADABLE),
    volume_kind("no gzip in .nii.gz", "bad.nii.gz", "coronary", lambda path: path.write_bytes(b"x" * 999), UNREADABLE),
    volume_kind("wrong checksum of gzip", "bad.nii.gz", "fixed", junk, UNREADABLE),
    volume_kind("folder called .nii.gz", "bad.nii.gz", "heart", lambda path: path.mkdir(), "no DICOM|0 volumes|folder"),
    volume_kind("link to nothing", "bad.nii.gz", "pretrain", lambda path: path.symlink_to("absent"), "no such file"),
    volume_kind(
        "unknown type of voxels",
        "bad.nii.gz",
        "heart",
        lambda path: nifti(path, body(), datatype=999),
        UNREADABLE + "|type",
    ),
    volume_kind(
        "no axes", "bad.nii", "brain", lambda path: nifti(path, body(), dim=[0] * 8), UNREADABLE + "|image of shape|0D"
    ),
    volume_kind(
        "negative size",
        "bad.nii",
        "features",
        lambda path: nifti(path, body(), dim=[3, -16, 15, 14, 1, 1, 1, 1]),
        UNREADABLE + "|size|shape",
    ),
    volume_kind(
        "more voxels than the file holds",
        "bad.nii.gz",
        "coronary",
        lambda path: nifti(path, body(), dim=[3, 30000, 30000, 30000, 1, 1, 1, 1]),
        UNREADABLE + "|memory|extent",
    ),
    volume_kind("2D image", "bad.nii.gz", "pretrain", lambda path: nifti(path, body()[..., 0]), "2D", r"16, 15"),
    volume_kind("one slice", "bad.nii.gz", "covid", lambda path: nifti(path, body()[..., :1]), "2D", r"16, 15, 1"),
    volume_kind(
        "4D series",
        "bad.nii.gz",
        "heart training",
        lambda path: nifti(path, np.stack([body(), body(1), body(2)], -1)),
        "4D",
        "expected one",
    ),
    volume_kind(
        "5D field",
        "bad.nii.gz",
        "moving",
        lambda path: nifti(path, np.stack([body(), body(1), body(2)], -1)[..., None, :]),
        "4D|5D|vector",
    ),
    volume_kind("RGB voxels", "bad.nii.gz", "features", lambda path: nifti(path, np.zeros(SHAPE, RGB)), "RGB"),
    volume_kind(
        "complex voxels", "bad.nii.gz", "brain", lambda path: nifti(path, body().astype(np.complex64)), "complex"
    ),
    volume_kind("a NaN voxel", "bad.nii.gz", "pretrain", lambda path: nifti(path, spoiled(np.nan)), "1 NaN"),
    volume_kind("all voxels NaN", "bad.nii.gz", "cached", lambda path: nifti(path, spoiled(np.nan, ...)), "NaN"),
    volume_kind("an infinite voxel", "bad.nii.gz", "evaluate", lambda path: nifti(path, spoiled(np.inf)), "1 infinite"),
    volume_kind(
        "a voxel above float32",
        "bad.nii.gz",
        "heart",
        lambda path: nifti(path, np.where(body() > 0, 1e300, 0.0)),
        "infinite",
    ),
    volume_kind(
        "constant image",
        "bad.nii.gz",
        "coronary training",
        lambda path: nifti(path, np.full(SHAPE, 7, "i2")),
        "constant",
    ),
    volume_kind("spacing of zero", "bad.nii", "pretrain", lambda path: nifti(path, body(), **ZERO_AXIS), "spacing"),
    volume_kind("spacing of NaN", "bad.nii", "heart", lambda path: nifti(path, body(), **NAN_AXIS), "spacing.*nan"),
    volume_kind(
        "singular affine",
        "bad.nii",
        "moving",
        lambda path: nifti(path, body(), srow_x=[6, 6, 0, 0], srow_y=[6, 6, 0, 0]),
        "singular",
    ),
    volume_kind("affine of NaN", "bad.nii", "covid", lambda path: nifti(path, body(), srow_x=[np.nan, 0, 0, 0]), "nan"),
    volume_kind(
        "spacing of 600 mm", "bad.nii.gz", "heart", lambda path: nifti(path, body(), scaled(100)), "600", "spacing"
    ),
    volume_kind(
        "spacing of 600 mm in training",
        "bad.nii.gz",
        "brain training",
        lambda path: nifti(path, body(), scaled(100)),
        "600",
        "spacing",
    ),
    volume_kind(
        "spacing of 0.006 mm",
        "bad.nii.gz",
        "features",
        lambda path: nifti(path, body(), scaled(0.001)),
        r"0\.006",
        "spacing",
    ),
    volume_kind(
        "6 m in a file of metres",
        "bad.nii.gz",
        "coronary",
        lambda path: nifti(path, body(), unit="meter"),
        "spacing",
        "6000|met(er|re)",
    ),
    volume_kind(
        "6 micrometres in a file of microns",
        "bad.nii.gz",
        "brain",
        lambda path: nifti(path, body(), unit="micron"),
        "spacing",
        r"0\.006|micron",
    ),
    volume_kind(
        "unsigned values with an offset",
        "bad.nii.gz",
        "pretrain",
        lambda path: nifti(path, (body().astype(np.int32) + 32768).astype(np.uint16)),
        "window|HU",
        "1024",
    ),
    volume_kind(
        "CT scaled to 0..1",
        "bad.nii.gz",
        "heart training",
        lambda path: nifti(path, ((body() + 1024) / 2048).astype(np.float32)),
        "window|HU",
        "1024",
    ),
    volume_kind(
        "CT scaled to 0..1 in a cached run",
        "bad.nii.gz",
        "cached",
        lambda path: nifti(path, ((body() + 1024) / 2048).astype(np.float32)),
        "window|HU",
        "1024",
    ),
    volume_kind(
        "every voxel above the window",
        "bad.nii.gz",
        "heart",
        lambda path: nifti(path, (body() + 9000).astype(np.int16)),
        "window|HU",
        "1024",
    ),
    volume_kind(
        "every voxel above the window, registered",
        "bad.nii.gz",
        "moving",
        lambda path: nifti(path, (body() + 9000).astype(np.int16)),
        "window|HU",
        "1024",
    ),
    volume_kind(
        "every voxel below the window",
        "bad.nii.gz",
        "features",
        lambda path: nifti(path, (body() - 9000).astype(np.int16)),
        "window|HU",
        "1024",
    ),
    kind(
        "name that is not UTF-8",
        lambda folder: pretrain(folder, lambda path: nifti(path, body()), "bad_\udcff.nii.gz"),
        "bad_",
        "UTF-8",
    ),
    volume_kind("unknown ending", "bad.png", "heart", lambda path: path.write_bytes(b"\x89PNG"), "unknown format"),
    volume_kind("Analyze header", "bad.hdr", "features", lambda path: path.write_bytes(bytes(348)), "unknown format"),
    volume_kind("NumPy file", "bad.npy", "brain", lambda path: np.save(path, body()), "unknown format"),
]
