# SPDX-License-Identifier: Apache-2.0
"""Displacement fields and volumes as NIfTI files that ITK, ANTs and 3D Slicer read."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np

RAS_TO_LPS = (-1.0, -1.0, 1.0)
SHEAR_TOLERANCE = 1e-4  # cosine between two axes; ITK leaves the sform of a more sheared image for the unsheared qform


def check_geometry(affine: np.ndarray, name: str) -> None:
    """Refuse a grid that ITK cannot represent: it would read another geometry than the one written, silently.

    Args:
        affine: (4, 4), voxels to millimetres. name: the file that the message names.

    Raises:
        ValueError: axes that are not perpendicular.
    """
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = directions.T @ directions - np.eye(3)
    if np.abs(cosines).max() > SHEAR_TOLERANCE:
        angle = np.degrees(np.arccos(np.abs(cosines).max()))
        raise ValueError(
            f"{name}: a sheared voxel grid, two axes meet at {angle:.3f} degrees, expected perpendicular axes, because "
            "ITK, ANTs and 3D Slicer cannot represent the grid; resample the fixed image first"
        )


def write_displacement_field(path: str | os.PathLike, field: np.ndarray, affine: np.ndarray) -> None:
    """Write a field as vector NIfTI: (*spatial, 1, 3), intent NIFTI_INTENT_VECTOR, millimetres, LPS.

    ITK reads the vectors as they are and thinks in LPS, so this is its DisplacementFieldTransform; ANTs and 3D Slicer
    take the same file.

    Args:
        path: .nii or .nii.gz. field: (3, *spatial), millimetres, RAS, see `world`. affine: of its grid, RAS.

    Raises:
        ValueError: another shape, or see `check_geometry`.
    """
    if field.ndim != 4 or field.shape[0] != 3:
        raise ValueError(f"{path}: a field of shape {field.shape}, expected (3, *spatial) with three axes")
    vectors = np.empty((*field.shape[1:], 1, 3), dtype=np.float32, order="F")
    for channel, sign in enumerate(RAS_TO_LPS):
        np.multiply(field[channel], np.float32(sign), out=vectors[..., 0, channel])
    _save(path, vectors, affine, intent="vector")


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


def write_volume(path: str | os.PathLike, volume: np.ndarray, affine: np.ndarray) -> None:
    """Write a volume (*spatial) with its affine (RAS) as sform and qform, in the array's type."""
    _save(path, volume, affine, intent="none")


def _save(path: str | os.PathLike, array: np.ndarray, affine: np.ndarray, intent: str) -> None:
    """Written under another name first and then renamed: a file of the given name is whole."""
    check_geometry(affine, os.fspath(path))
    image = nibabel.Nifti1Image(array, affine, dtype=array.dtype)
    image.header.set_intent(intent)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    temporary = Path(path).with_name(f".tmp_{Path(path).name}")  # nibabel goes by the extension
    nibabel.save(image, temporary)
    os.replace(temporary, path)
