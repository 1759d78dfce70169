# SPDX-License-Identifier: Apache-2.0
"""Volumes as NIfTI files that ITK, ANTs and 3D Slicer read."""

from __future__ import annotations

import os

import nibabel
import numpy as np

from ..files import atomic

GZIP_UNIX = b"\x03"  # as in the files of phantoms since their version 1.0
SHEAR_TOLERANCE = 1e-4  # cosine between two axes; ITK leaves the sform of a more sheared image for the unsheared qform


def check_geometry(affine: np.ndarray, name: str) -> None:
    """Refuse a grid that ITK cannot represent; ITK would read another geometry without a message.

    Args:
        affine: (4, 4), from voxels to millimetres.
        name: the file, for the message.

    Raises:
        ValueError: the axes are not perpendicular.
    """
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosines = directions.T @ directions - np.eye(3)
    if np.abs(cosines).max() > SHEAR_TOLERANCE:
        angle = np.degrees(np.arccos(np.abs(cosines).max()))
        raise ValueError(
            f"{name}: a sheared voxel grid, two axes meet at {angle:.3f} degrees, expected perpendicular axes, because "
            "ITK, ANTs and 3D Slicer cannot represent the grid; resample the fixed image first"
        )


def nifti_image(array: np.ndarray, affine: np.ndarray, intent: str = "none") -> nibabel.Nifti1Image:
    """The image that `write_volume` writes; it has the same arguments."""
    image = nibabel.Nifti1Image(array, affine, dtype=array.dtype)
    image.header.set_intent(intent)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    return image


def write_volume(
    path: str | os.PathLike, array: np.ndarray, affine: np.ndarray, intent: str = "none", allow_shear: bool = False
) -> None:
    """Write an array as NIfTI in its own type. The file appears complete; see `custom.files.atomic`.

    Args:
        path: .nii or .nii.gz; equal content gives equal bytes.
        array: (*spatial), or (*spatial, 1, 3) for vectors.
        affine: (4, 4), from voxels to millimetres (RAS); it becomes sform and qform.
        intent: name of the NIfTI intent, such as "none" or "vector".
        allow_shear: write a grid that `check_geometry` refuses; ITK then uses the qform, which has no shear.

    Raises:
        ValueError: see `check_geometry`.
        OSError: the file cannot be written.
    """
    if not allow_shear:
        check_geometry(affine, os.fspath(path))
    with atomic(path, "the volume") as temporary:
        nibabel.save(nifti_image(array, affine, intent), temporary)
        if temporary.suffix == ".gz":
            with open(temporary, "rb+") as file:
                file.seek(9)  # byte of the gzip header for the operating system: nibabel writes "unknown"
                file.write(GZIP_UNIX)
