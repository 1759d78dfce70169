# SPDX-License-Identifier: Apache-2.0
"""Displacement fields as NIfTI files that ITK, ANTs and 3D Slicer read."""

from __future__ import annotations

import os

import nibabel
import numpy as np

from ..volumes import write_volume

RAS_TO_LPS = (-1.0, -1.0, 1.0)


def write_displacement_field(path: str | os.PathLike, field: np.ndarray, affine: np.ndarray) -> None:
    """Write a field as vector NIfTI: (*spatial, 1, 3), intent NIFTI_INTENT_VECTOR, millimetres, LPS.

    ITK does not change the vectors when it reads them, and its coordinates are LPS. Therefore ITK, ANTs and 3D Slicer
    read the file as a DisplacementFieldTransform.

    Args:
        path: .nii or .nii.gz.
        field: (3, *spatial), millimetres, RAS; see `world`.
        affine: (4, 4), from voxels of the field's grid to millimetres, RAS.

    Raises:
        ValueError: the shape is another one; see also `write_volume`.
    """
    if field.ndim != 4 or field.shape[0] != 3:
        raise ValueError(f"{path}: a field of shape {field.shape}, expected (3, *spatial) with three axes")
    vectors = np.empty((*field.shape[1:], 1, 3), dtype=np.float32, order="F")
    for channel, sign in enumerate(RAS_TO_LPS):
        np.multiply(field[channel], np.float32(sign), out=vectors[..., 0, channel])
    write_volume(path, vectors, affine, intent="vector")


def read_displacement_field(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Read a file of `write_displacement_field`.

    Returns:
        (field (3, *spatial) in millimetres, RAS, float32; affine (4, 4) of its grid).

    Raises:
        ValueError: the shape or the intent is another one.
    """
    image = nibabel.load(path)
    intent = image.header.get_intent()[0]
    if image.ndim != 5 or image.shape[3:] != (1, 3) or intent != "vector":
        expected = "(x, y, z, 1, 3) and 'vector'"
        raise ValueError(f"{path}: shape {image.shape} and intent {intent!r}, expected a vector image, {expected}")
    vectors = np.moveaxis(np.asarray(image.dataobj, dtype=np.float32)[:, :, :, 0], -1, 0)
    return vectors * np.float32(RAS_TO_LPS).reshape(3, 1, 1, 1), image.affine
