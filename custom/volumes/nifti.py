# SPDX-License-Identifier: Apache-2.0
"""Headers of NIfTI files: geometry by the rules of the format, and whether the file is complete."""

from __future__ import annotations

import gzip
import os

import nibabel
import numpy as np

from .geometry import VolumeError, check_affine, warn_once

NIFTI_SUFFIXES = (".nii", ".nii.gz")
UNITS = {0: ("no unit", 1.0), 1: ("metre", 1000.0), 2: ("millimetre", 1.0), 3: ("micron", 0.001)}  # name, in mm


def nifti_affine(name: str) -> np.ndarray:
    """
    The affine of a NIfTI file in millimetres by the rule of the format: sform, otherwise qform, otherwise pixdim.

    It is read with nibabel and checked, because the readers repair some faults without a message: nibabel replaces a
    pixdim of zero by 1, and MONAI's NibabelReader replaces an sform whose spacing differs from pixdim by more than
    1e-5 by the qform, which may not be set. Both ignore the unit. Metres and microns are converted here; a file
    without a unit is taken as millimetres. A file whose sform and qform are both unset is used with a warning.

    Raises:
        VolumeError: the pixel type is RGB or complex, the unit is unknown, or `check_affine` refuses the affine.
    """
    image = nibabel.load(name)
    pixel_type = image.get_data_dtype()
    if pixel_type.kind not in "biuf":
        raise VolumeError(f"{name}: pixel type {pixel_type} (RGB or complex), expected one real number per voxel")
    with nibabel.openers.ImageOpener(name) as stream:
        header = type(image.header).from_fileobj(stream, check=False)
    code = int(header["xyzt_units"]) & 7
    if code not in UNITS:
        raise VolumeError(f"{name}: unknown unit, code {code} in xyzt_units, expected millimetre, metre or micron")
    unit, factor = UNITS[code]
    pixdim = header["pixdim"][1:4]
    if header["sform_code"] == 0 and not (np.isfinite(pixdim) & (pixdim != 0)).all():
        raise VolumeError(f"{name}: voxel spacing {pixdim.tolist()} mm, expected finite spacing above zero")
    if header["sform_code"] == 0 and header["qform_code"] == 0:
        warn_once(
            f"{name}: the header has no orientation (sform_code and qform_code are 0): the axes are taken as left, "
            "anterior, superior; left and right are guessed"
        )
    affine = np.diag([factor, factor, factor, 1.0]) @ image.affine
    check_affine(affine, name, image.shape[:3], unit)
    return affine


def check_stream(name: str) -> None:
    """Read a .nii.gz file to its end, where the checksum of its content stands. nibabel stops after the last voxel.

    Raises:
        OSError: the content has another checksum.
        EOFError: the stream is truncated.
    """
    if name.lower().endswith(".gz"):
        with gzip.open(name) as stream:
            while stream.read(2**24):
                pass


def check_complete(name: str) -> None:
    """Check that a NIfTI file holds all voxels of its header, without reading them.

    A compressed file ends with the size of its content. Only if this number is not the expected one, the file is
    decompressed, because a file of several compressed parts has another number there.

    Raises:
        VolumeError: voxels are missing.
        EOFError: the compressed stream is truncated.
    """
    image = nibabel.load(name)
    voxels = image.dataobj
    needed = int(voxels.offset) + int(np.prod(voxels.shape)) * voxels.dtype.itemsize
    found = os.path.getsize(name)
    if name.lower().endswith(".gz"):
        with open(name, "rb") as file:
            file.seek(-4, os.SEEK_END)
            found = int.from_bytes(file.read(4), "little")
        if found != needed % 2**32:
            with gzip.open(name) as stream:
                found = sum(len(block) for block in iter(lambda: stream.read(2**24), b""))
        else:
            found = needed
    if found < needed:
        raise VolumeError(f"{name}: {found} bytes, expected {needed} (a truncated file)")
