# SPDX-License-Identifier: Apache-2.0
"""Headers of NIfTI files: geometry by the rules of the format, and whether the file is complete."""

from __future__ import annotations

import gzip
import math
import os

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError

from .geometry import VolumeError, check_affine, warn_once

NIFTI_SUFFIXES = (".nii", ".nii.gz")
UNITS = {0: ("no unit", 1.0), 1: ("metre", 1000.0), 2: ("millimetre", 1.0), 3: ("micron", 0.001)}  # name, in mm


def nifti_affine(name: str) -> np.ndarray:
    """
    The affine of a NIfTI file in millimetres by the rule of the format: sform, otherwise qform, otherwise pixdim.

    The header is read and checked here, because the readers repair some faults without a message: nibabel replaces a
    pixdim of zero by 1, and MONAI's NibabelReader replaces an sform whose spacing differs from pixdim by more than
    1e-5 by the qform, which may not be set. Both ignore the unit. Metres and microns are converted here; a file
    without a unit is taken as millimetres. A file whose sform and qform are both unset is used with a warning.

    Raises:
        VolumeError: the pixel type is RGB or complex, the unit is unknown, or `check_affine` refuses the affine.
    """
    header, repaired = _headers(name)
    pixel_type = repaired.get_data_dtype()
    if pixel_type.kind not in "biuf":
        raise VolumeError(f"{name}: pixel type {pixel_type} (RGB or complex), expected one real number per voxel")
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
    affine = np.diag([factor, factor, factor, 1.0]) @ repaired.get_best_affine()
    check_affine(affine, name, repaired.get_data_shape()[:3], unit)
    return affine


def nifti_shape(name: str) -> tuple[int, ...]:
    """Number of voxels along each axis of a NIfTI file, by its header."""
    _, header = _headers(name)
    return tuple(int(side) for side in header.get_data_shape())


def _headers(name: str) -> tuple[nibabel.Nifti1Header, nibabel.Nifti1Header]:
    """The header as it is stored, and as `nibabel.load` repairs it, read once and without the image."""
    with nibabel.openers.ImageOpener(name) as stream:
        start = stream.read(nibabel.Nifti2Header.sizeof_hdr)
        kinds = [kind for kind in (nibabel.Nifti1Header, nibabel.Nifti2Header) if kind.may_contain_header(start)]
        if not kinds:
            raise ImageFileError("it has no header of NIfTI-1 or NIfTI-2")
        stream.seek(0)
        header = kinds[0].from_fileobj(stream, check=False)
    repaired = header.copy()
    repaired.check_fix()
    return header, repaired


def read_nifti(name: str) -> np.ndarray:
    """The voxels of a NIfTI file, scaled as its header says, axes in the order of the file.

    A .nii.gz file is read to its end, where the checksum of its content stands; nibabel stops after the last voxel.

    Raises:
        OSError: voxels are missing, or the content has another checksum.
        EOFError: the compressed stream is truncated.
    """
    image = nibabel.load(name)
    if not name.lower().endswith(".gz"):
        return np.asanyarray(image.dataobj)
    with gzip.open(name) as stream:
        voxels = np.asanyarray(type(image).from_stream(stream).dataobj)
        while stream.read(2**24):
            pass
    return voxels


def check_complete(name: str) -> None:
    """Check that a NIfTI file holds all voxels of its header, without reading them.

    A compressed file ends with the size of its content. Only if this number is not the expected one, the file is
    decompressed, because a file of several compressed parts has another number there.

    Raises:
        VolumeError: voxels are missing.
        EOFError: the compressed stream is truncated.
    """
    _, header = _headers(name)
    voxels = math.prod(int(side) for side in header.get_data_shape())
    needed = int(header.get_data_offset()) + voxels * header.get_data_dtype().itemsize
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
