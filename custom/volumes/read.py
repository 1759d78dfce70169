# SPDX-License-Identifier: Apache-2.0
"""Reading one 3D volume from NIfTI, NRRD, MetaImage or a DICOM series folder, with errors that name the file."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import itk
import numpy as np
import torch
from monai.data import ITKReader, MetaTensor
from monai.transforms import EnsureChannelFirst
from monai.utils import MetaKeys, SpaceKeys

from .dicom import VOLUME_SUFFIXES, check_dicom_series
from .geometry import VolumeError, check_affine
from .metadata import without_metadata
from .nifti import NIFTI_SUFFIXES, check_complete, nifti_affine, nifti_shape, read_nifti
from .text_header import ITK_SUFFIXES, check_text_header, is_complete

BLOCK = 16  # planes that are copied at once into another memory order
META_KEYS = (MetaKeys.SPATIAL_SHAPE, MetaKeys.SPACE)


def check_volume(volume: torch.Tensor, name: str, is_label: bool = False, channels: int = 1) -> None:
    """
    Check that a tensor is one usable 3D volume.

    Args:
        volume: (channels, *spatial), three spatial axes. The affine of a MetaTensor (voxels to millimetres) is checked
            too.
        name: file or key, for the message.
        is_label: whether the volume is a label map, which may be constant but must hold whole numbers.
        channels: number of channels that the volume must have.

    Raises:
        VolumeError: the shape is 2D or has another number of channels, voxels are NaN or infinite, a channel of an
            image is constant, a label is no whole number, or `check_affine` refuses the affine.
    """
    shape = tuple(volume.shape)
    if len(shape) != 4 or 1 in shape[1:]:
        dimensions = sum(size > 1 for size in shape[1:])
        raise VolumeError(f"{name}: a {dimensions}D image of shape {shape[1:]}, expected a 3D volume")
    check_channels(shape[0], shape[1:], name, is_label, channels)
    values = without_metadata(volume)
    bounds = [[value.item() for value in channel.aminmax()] for channel in values]  # NaN if any voxel is
    if not all(math.isfinite(bound) for of_channel in bounds for bound in of_channel):
        not_finite = values.numel() - int(torch.isfinite(values).sum())
        nans = int(torch.isnan(values).sum())
        raise VolumeError(
            f"{name}: {nans} NaN and {not_finite - nans} infinite voxels of {values.numel()}, expected finite values"
        )
    if is_label:
        fractional = int((values != values.round()).sum()) if values.is_floating_point() else 0
        if fractional:
            raise VolumeError(f"{name}: {fractional} voxels are not whole numbers, expected a label map")
    else:
        for number, (lowest, highest) in enumerate(bounds, start=1):
            if lowest == highest:
                what = "a constant image" if channels == 1 else f"channel {number} of {channels} is constant"
                raise VolumeError(f"{name}: {what}, every voxel is {lowest:g}, expected contrast")
    if isinstance(volume, MetaTensor):
        check_affine(np.asarray(volume.affine, dtype=np.float64), name, shape[1:])


def check_channels(found: int, shape: Sequence[int], name: str, is_label: bool, channels: int) -> None:
    """Raise VolumeError unless a volume of this spatial shape has as many channels as expected."""
    if found == channels:
        return
    if channels == 1:
        hint = "" if is_label else f", or --in_channels {found} if these are the channels of one image"
        raise VolumeError(
            f"{name}: {found} channels or time points of shape {tuple(shape)} (a 4D, RGB or vector image), expected "
            f"one 3D volume with one number per voxel{hint}"
        )
    raise VolumeError(f"{name}: {found} channels of shape {tuple(shape)}, expected {channels} channels (in_channels)")


def _float32(array: np.ndarray) -> np.ndarray:
    """A copy in float32 and C order. NIfTI files have Fortran order: blocks stay in the cache of the processor."""
    copy = np.empty(array.shape, np.float32)
    for start in range(0, array.shape[-1], BLOCK):
        copy[..., start : start + BLOCK] = array[..., start : start + BLOCK]
    return copy


def _as_integers(volume: MetaTensor, name: str) -> MetaTensor:
    """A checked label map as int32, or as int64 if a value needs it."""
    values = volume.as_tensor()
    lowest, highest = values.min().item(), values.max().item()
    if values.is_floating_point():
        exact = round(2 / torch.finfo(values.dtype).eps)  # whole numbers up to here have a value of their own
        if max(-lowest, highest) > exact:
            raise VolumeError(
                f"{name}: label values from {lowest:.0f} to {highest:.0f} in {values.dtype}, which tells whole numbers "
                f"apart up to {exact}, expected an integer pixel type"
            )
    fits = torch.iinfo(torch.int32).min <= lowest and highest <= torch.iinfo(torch.int32).max
    return volume.to(torch.int32 if fits else torch.int64)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if not re.match(r"\S+\.[ch]xx:\d+:$", line.strip())]
    return f"{type(error).__name__}: {' '.join(lines)[:300]}"


@contextmanager
def _named_errors(name: str) -> Iterator[None]:
    try:
        yield
    except VolumeError:
        raise
    except Exception as error:  # of nibabel, zlib, pydicom or ITK
        raise VolumeError(f"{name}: cannot be read, expected a complete volume file ({_reason(error)})") from error


def _check_header(name: str) -> np.ndarray | None:
    """Check the header of a file or the headers in a DICOM folder. Of NIfTI the affine is returned, otherwise None."""
    suffix = name.lower()
    if os.path.isdir(name):
        check_dicom_series(name)
    elif not os.path.exists(name):
        raise VolumeError(f"{name}: no such file or folder, expected a volume")
    elif suffix.endswith(NIFTI_SUFFIXES):
        return nifti_affine(name)
    elif suffix.endswith(ITK_SUFFIXES):
        check_text_header(name)
    else:
        raise VolumeError(
            f"{name}: unknown format, expected {', '.join(VOLUME_SUFFIXES)} or the folder of a DICOM series"
        )
    return None


def _read(name: str, affine: np.ndarray | None) -> tuple[np.ndarray, dict]:
    """Array and metadata, as MONAI's readers give them; `affine` is what `_check_header` returned."""
    if affine is None:
        reader = ITKReader()
        return reader.get_data(reader.read(name))
    array = read_nifti(name)
    return array, {
        MetaKeys.AFFINE: affine,
        MetaKeys.SPATIAL_SHAPE: np.array(array.shape[:3]),
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.ORIGINAL_CHANNEL_DIM: math.nan if array.ndim <= 3 else -1,
    }


def load_volume(path: str | os.PathLike, is_label: bool = False, channels: int = 1) -> MetaTensor:
    """
    Load one 3D volume.

    Args:
        path: .nii, .nii.gz, .nrrd, .mha, .mhd, or a folder that holds exactly one DICOM series. Trailing axes of
            size one, as in (x, y, z, 1), are dropped. Channels are the last axis of a NIfTI file, (x, y, z, channels).
        is_label: see `check_volume`.
        channels: see `check_volume`.

    Returns:
        A MetaTensor (channels, *spatial) with the axes of the file and its affine (voxels to RAS millimetres): float32,
        or of a label map int32 (int64 if a value needs it). Its metadata are affine, shape and file name only.

    Raises:
        VolumeError: the file is missing, truncated or cannot be read (the error of the reader is the cause), it does
            not state its geometry, `check_volume` refuses it, or a label value is lost in its pixel type.
    """
    name = os.path.expanduser(os.fspath(path))
    with _named_errors(name):
        array, meta = _read(name, _check_header(name))
        if is_label and array.dtype.kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
            raise VolumeError(f"{name}: label value {array.max()}, expected at most {np.iinfo(np.int64).max}")
        if not is_label:
            with np.errstate(over="ignore"):  # too large for float32: `check_volume` counts infinite voxels
                array = _float32(array)
        elif array.dtype.kind in "bu":  # torch has few operations for unsigned integers
            array = array.astype(np.int64)
        else:
            array = array.astype(array.dtype.newbyteorder("="), copy=False)  # torch knows that of the machine only
        loaded = EnsureChannelFirst()(MetaTensor(torch.from_numpy(np.ascontiguousarray(array)), meta=meta))
    while loaded.ndim > 4 and loaded.shape[-1] == 1:
        loaded = loaded[..., 0]
    affine = torch.as_tensor(np.array(loaded.meta[MetaKeys.AFFINE]), dtype=torch.float64)
    meta = {key: loaded.meta[key] for key in META_KEYS}
    meta |= {MetaKeys.ORIGINAL_AFFINE: affine.numpy().copy(), "filename_or_obj": name}
    meta[MetaKeys.ORIGINAL_CHANNEL_DIM] = 0  # `EnsureChannelFirst` has nothing to do
    volume = MetaTensor(loaded.as_tensor().contiguous(), affine=affine, meta=meta)
    check_volume(volume, name, is_label, channels)
    return _as_integers(volume, name) if is_label else volume


def check_file(path: str | os.PathLike, is_label: bool = False, header_only: bool = False, channels: int = 1) -> None:
    """
    Check that a volume can be read, has its channels and states its geometry, in milliseconds if the format allows it.

    Files: the header and the number of bytes; where these do not prove that the file is complete, the file is read.
    DICOM folder: the headers of all its files. Voxel values (NaN, constant images) are checked by `load_volume` only.

    Args:
        path: see `load_volume`.
        is_label: see `check_volume`.
        header_only: check the header only, not whether the file is complete.
        channels: see `check_volume`.

    Raises:
        VolumeError: see `load_volume`.
    """
    name = os.path.expanduser(os.fspath(path))
    with _named_errors(name):
        _check_header(name)
        if name.lower().endswith(NIFTI_SUFFIXES):
            shape = nifti_shape(name)
            check_channels(math.prod(shape[3:]), shape[:3], name, is_label, channels)
            if not header_only:
                check_complete(name)
        elif os.path.isfile(name) and not header_only:
            _check_itk_header(name, is_label, channels)
            if not is_complete(name):
                load_volume(name, is_label, channels)


def _check_itk_header(name: str, is_label: bool, channels: int) -> None:
    image_io = itk.ImageIOFactory.CreateImageIO(name, itk.CommonEnums.IOFileMode_ReadMode)
    image_io.SetFileName(name)
    image_io.ReadImageInformation()
    shape = [image_io.GetDimensions(axis) for axis in range(image_io.GetNumberOfDimensions())]
    spacing = [image_io.GetSpacing(axis) for axis in range(len(shape[:3]))]
    check_affine(np.diag([*spacing, 1.0]), name, shape[:3])
    check_channels(image_io.GetNumberOfComponents() * math.prod(shape[3:]), shape[:3], name, is_label, channels)


def whole_numbers(label: MetaTensor) -> np.ndarray:
    """A label map (1, *spatial) as an array (*spatial), in the smallest of int16, int32 and int64 that holds it."""
    values = label[0].numpy()
    types = [np.int16, np.int32, np.int64]
    fitting = next(t for t in types if np.iinfo(t).min <= values.min() and values.max() <= np.iinfo(t).max)
    return values.astype(fitting)
