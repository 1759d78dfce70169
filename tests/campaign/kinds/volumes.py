# SPDX-License-Identifier: Apache-2.0
"""Good volumes to spoil: sound files of every format, and folders of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import itk
import nibabel
import numpy as np

from .kind import SPACING

AFFINE = np.diag([*SPACING, 1.0])
SHAPE = (16, 15, 14)


def body(seed: int = 0) -> np.ndarray:
    """A block of tissue in air, in HU: int16, (16, 15, 14), RAS."""
    generator = np.random.default_rng(seed)
    image = np.full(SHAPE, -1000)
    image[3:13, 3:12, 2:12] = 40
    image[5:9, 5 + seed % 3 : 9, 4:9] = 300
    return (image + generator.integers(-20, 20, SHAPE)).astype(np.int16)


def structures() -> np.ndarray:
    """A label map with the values 0, 1 and 2 on the grid of `body`: int16."""
    label = np.zeros(SHAPE, np.int16)
    label[5:9, 5:9, 4:9], label[9:12, 5:9, 4:9] = 1, 2
    return label


def nifti(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE, unit: str = "mm", **fields: Any) -> Path:
    """Writes a NIfTI file with an sform.

    Args:
        path: of the file; its folder is made.
        array: voxels; their type is kept.
        affine: voxels to RAS, in the unit.
        unit: of space.
        fields: entries of the header, written over the bytes of the file, which nibabel would repair.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, affine, dtype=array.dtype)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    if fields:
        with nibabel.openers.ImageOpener(path) as stream:
            content = bytearray(stream.read())
        for name, value in fields.items():
            dtype, offset = nibabel.nifti1.header_dtype.fields[name][:2]
            raw = np.asarray(value, dtype.base).tobytes()
            content[offset : offset + len(raw)] = raw
        with nibabel.openers.ImageOpener(path, "wb") as stream:
            stream.write(bytes(content))
    return path


def to_itk(array: np.ndarray) -> Any:
    """An ITK image of an array (x, y, z) with the voxels of `AFFINE`."""
    image = itk.image_from_array(np.ascontiguousarray(array.T))
    image.SetSpacing(SPACING[: array.ndim])
    return image


def by_itk(path: Path, array: np.ndarray, **options: Any) -> Path:
    """Writes a NRRD or MetaImage file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    itk.imwrite(to_itk(array), str(path), **options)
    return path


def volumes(folder: Path, count: int = 4, labelled: bool = False) -> Path:
    """Writes 0.nii.gz, 1.nii.gz, ... into a folder, or into its images/ with label maps in labels/."""
    for number in range(count):
        nifti(folder / ("images" if labelled else "") / f"{number}.nii.gz", body(number))
        if labelled:
            nifti(folder / "labels" / f"{number}.nii.gz", structures())
    return folder


def classified(folder: Path, labels: list[Any]) -> Path:
    """Writes volumes and a dataset.json that gives each a class; validation and test have both classes."""
    volumes(folder, len(labels) + 4)
    entries = [{"image": f"{number}.nii.gz", "label": label} for number, label in enumerate([*labels, 0, 1, 0, 1])]
    return listed(folder, {"training": entries[:-4], "validation": entries[-4:-2], "test": entries[-2:]})


def listed(folder: Path, content: Any) -> Path:
    """Writes dataset.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def cut(path: Path, share: float = 0.5) -> Path:
    """Keeps the first part of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def replaced(path: Path, old: str | bytes, new: str | bytes) -> Path:
    """Replaces a text in a file that has it."""
    old, new = (part.encode() if isinstance(part, str) else part for part in (old, new))
    content = path.read_bytes()
    assert old in content, f"{path} has no {old!r}"
    path.write_bytes(content.replace(old, new))
    return path
