# SPDX-License-Identifier: Apache-2.0
"""Displacement fields as NIfTI files that ITK, ANTs and 3D Slicer read."""

from __future__ import annotations

import os

import nibabel
import numpy as np

from ..volumes import write_nifti

RAS_TO_LPS = (-1.0, -1.0, 1.0)


def write_displacement_field(path: str | os.PathLike, field: np.ndarray, affine: np.ndarray) -> None:
    """Write a field as vector NIfTI: (*spatial, 1, 3), intent NIFTI_INTENT_VECTOR, millimetres, LPS.

    ITK reads the vectors as they are and thinks in LPS, so this is its DisplacementFieldTransform; ANTs and 3D Slicer
    take the same file.

    Args:
        path: .nii or .nii.gz. field: (3, *spatial), millimetres, RAS, see `world`. affine: of its grid, RAS.

    Raises:
        ValueError: another shape, or see `write_nifti`.
    """
    if field.ndim != 4 or field.shape[0] != 3:
        raise ValueError(f"{path}: a field of shape {field.shape}, expected (3, *spatial) with three axes")
    vectors = np.empty((*field.shape[1:], 1, 3), dtype=np.float32, order="F")
    for channel, sign in enumerate(RAS_TO_LPS):
        np.multiply(field[channel], np.float32(sign), out=vectors[..., 0, channel])
    write_nifti(path, vectors, affine, intent="vector")


def read_displacement_field(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """What `write_displacement_field` wrote: the field (3, *spatial), millimetres, RAS, float32, and its affine.

    Raises:
        ValueError: another shape or intent.
    """
    image = nibabel.load(path)
    intent = image.header.get_intent()[0]
    if image.ndim != 5 or image.shape[3:] != (1, 3) or intent != "vector":
        expected = "(x, y, z, 1, 3) and 'vector'"
        raise ValueError(f"{path}: shape {image.shape} and intent {intent!r}, expected a vector image, {expected}")
    vectors = np.moveaxis(np.asarray(image.dataobj, dtype=np.float32)[:, :, :, 0], -1, 0)
    return vectors * np.float32(RAS_TO_LPS).reshape(3, 1, 1, 1), image.affine
