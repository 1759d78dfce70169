# SPDX-License-Identifier: Apache-2.0
"""Volumes as NIfTI files that ITK, ANTs and 3D Slicer read."""

from __future__ import annotations

import os

import nibabel
import numpy as np

from ..files import atomic

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


def write_volume(path: str | os.PathLike, volume: np.ndarray, affine: np.ndarray) -> None:
    """Write a volume (*spatial) with its affine (RAS) as sform and qform, in the array's type."""
    write_nifti(path, volume, affine, intent="none")


def write_nifti(path: str | os.PathLike, array: np.ndarray, affine: np.ndarray, intent: str) -> None:
    """Write an array with its affine (RAS) as sform and qform; the file appears complete, see `atomic`."""
    check_geometry(affine, os.fspath(path))
    image = nibabel.Nifti1Image(array, affine, dtype=array.dtype)
    image.header.set_intent(intent)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    with atomic(path, "the volume") as temporary:
        nibabel.save(image, temporary)
