# SPDX-License-Identifier: Apache-2.0
"""Reading one 3D volume from NIfTI, NRRD, MetaImage or a DICOM series folder, with errors that name the file."""

from __future__ import annotations

import os
import re

import itk
import nibabel
import numpy as np
import torch
from monai.data import ITKReader, MetaTensor, NibabelReader
from monai.transforms import LoadImage
from monai.utils import MetaKeys

NIFTI_SUFFIXES = (".nii", ".nii.gz")
ITK_SUFFIXES = (".nrrd", ".mha", ".mhd")
VOLUME_SUFFIXES = NIFTI_SUFFIXES + ITK_SUFFIXES
META_KEYS = (MetaKeys.SPATIAL_SHAPE, MetaKeys.SPACE, MetaKeys.ORIGINAL_CHANNEL_DIM)
SLICE_TOLERANCE = 0.1  # largest deviation of a step between slices, as a share of the slice distance


class VolumeError(ValueError):
    """A volume that cannot be used. The message names the file, what was found and what was expected."""


def is_dicom_file(path: str | os.PathLike) -> bool:
    """Whether a file is a DICOM object: it ends in .dcm, or has the letters DICM at byte 128. DICOMDIR is none."""
    name = os.path.basename(path).lower()
    if name.startswith(".") or name == "dicomdir" or name.endswith(VOLUME_SUFFIXES) or not os.path.isfile(path):
        return False
    if name.endswith(".dcm"):
        return True
    with open(path, "rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def check_volume(volume: torch.Tensor, name: str, is_label: bool = False) -> None:
    """
    Check that a tensor is one usable 3D volume.

    Args:
        volume: (1, *spatial), three spatial axes. The affine of a MetaTensor (voxels to millimetres) is checked too.
        name: file or key, for the message.
        is_label: whether the volume is a label map, which may be constant but must hold whole numbers.

    Raises:
        VolumeError: the shape is 2D, 4D or has several channels, voxels are NaN or infinite, an image is constant, a
            label is no whole number, the voxel spacing is not positive and finite, or the affine is singular.
    """
    shape = tuple(volume.shape)
    if len(shape) != 4 or 1 in shape[1:]:
        dimensions = sum(size > 1 for size in shape[1:])
        raise VolumeError(f"{name}: a {dimensions}D image of shape {shape[1:]}, expected a 3D volume")
    if shape[0] != 1:
        raise VolumeError(
            f"{name}: {shape[0]} channels or time points of shape {shape[1:]} (a 4D, RGB or vector image), expected "
            "one 3D volume with one number per voxel"
        )
    values = volume.as_tensor() if isinstance(volume, MetaTensor) else volume
    not_finite = values.numel() - int(torch.isfinite(values).sum())
    if not_finite:
        nans = int(torch.isnan(values).sum())
        raise VolumeError(
            f"{name}: {nans} NaN and {not_finite - nans} infinite voxels of {values.numel()}, expected finite values"
        )
    if is_label:
        fractional = int((values != values.round()).sum())
        if fractional:
            raise VolumeError(f"{name}: {fractional} voxels are not whole numbers, expected a label map")
    elif values.min() == values.max():
        raise VolumeError(f"{name}: a constant image, every voxel is {values.min().item():g}, expected contrast")
    if isinstance(volume, MetaTensor):
        _check_affine(np.asarray(volume.affine, dtype=np.float64), name)


def _check_affine(affine: np.ndarray, name: str) -> None:
    matrix = affine[:3, :3]
    spacing = np.linalg.norm(matrix, axis=0)
    if not np.isfinite(affine).all() or not (spacing > 0).all():
        raise VolumeError(
            f"{name}: voxel spacing {spacing.tolist()} mm, affine {affine.tolist()}, expected finite spacing above zero"
        )
    if abs(np.linalg.det(matrix / spacing)) < 1e-6:
        raise VolumeError(f"{name}: singular affine {affine.tolist()}, expected three independent axes")


def _nifti_affine(name: str) -> np.ndarray:
    """
    The affine of a NIfTI file by the rule of the format: the sform, otherwise the qform, otherwise the pixdim.

    It is read with nibabel and checked, because the readers repair some faults without a message: nibabel replaces a
    pixdim of zero by 1, and MONAI's NibabelReader replaces an sform whose spacing differs from pixdim by more than
    1e-5 by the qform, which may not be set.
    """
    image = nibabel.load(name)
    pixel_type = image.get_data_dtype()
    if pixel_type.kind not in "biuf":
        raise VolumeError(f"{name}: pixel type {pixel_type} (RGB or complex), expected one real number per voxel")
    with nibabel.openers.ImageOpener(name) as stream:
        header = type(image.header).from_fileobj(stream, check=False)
    pixdim = header["pixdim"][1:4]
    if header["sform_code"] == 0 and not (np.isfinite(pixdim) & (pixdim != 0)).all():
        raise VolumeError(f"{name}: voxel spacing {pixdim.tolist()} mm, expected finite spacing above zero")
    _check_affine(image.affine, name)
    return image.affine


def _dicom_tags(path: str, *tags: str) -> list[str]:
    image_io = itk.GDCMImageIO.New(FileName=path)
    image_io.ReadImageInformation()
    dictionary = image_io.GetMetaDataDictionary()
    return [dictionary[tag].strip() if dictionary.HasKey(tag) else "" for tag in tags]


def _check_dicom_series(folder: str) -> None:
    """Check a DICOM folder: one series, every file readable, evenly spaced slices. ITK only warns or skips files."""
    dicom_files = sorted(entry.name for entry in os.scandir(folder) if is_dicom_file(entry.path))
    if not dicom_files:
        raise VolumeError(f"{folder}: no DICOM files in this folder, expected one DICOM series")
    generator = itk.GDCMSeriesFileNames.New()
    generator.SetUseSeriesDetails(True)  # the settings of MONAI's ITKReader, which reads the folder afterwards
    generator.AddSeriesRestriction("0008|0021")
    generator.SetDirectory(folder)
    series = [list(generator.GetFileNames(identifier)) for identifier in generator.GetSeriesUIDs()]
    if len(series) > 1:
        listed = ", ".join(f"{_dicom_tags(files[0], '0020|000e')[0]} ({len(files)} slices)" for files in series)
        raise VolumeError(f"{folder}: {len(series)} DICOM series: {listed}; expected one series per folder")
    readable = {os.path.basename(path) for files in series for path in files}
    unreadable = [file for file in dicom_files if file not in readable]
    if unreadable:
        raise VolumeError(
            f"{folder}: {len(unreadable)} of {len(dicom_files)} DICOM files cannot be read (truncated or damaged): "
            f"{', '.join(unreadable[:5])}; expected a complete series"
        )
    if len(series[0]) > 1:
        _check_slice_steps(series[0], folder)


def _check_slice_steps(files: list[str], folder: str) -> None:
    tags = [_dicom_tags(path, "0020|0032", "0020|0037") for path in files]
    if not all(position and orientation for position, orientation in tags):
        raise VolumeError(f"{folder}: slices without position or orientation (0020,0032 and 0020,0037), expected both")
    positions = np.array([position.split("\\") for position, _ in tags], dtype=np.float64)
    rows_and_columns = np.array(tags[0][1].split("\\"), dtype=np.float64).reshape(2, 3)
    normal = np.cross(*rows_and_columns)
    steps = np.diff(positions, axis=0)
    distances = steps @ normal
    distance = float(np.median(distances))
    if np.linalg.norm(steps - distance * normal, axis=1).max() > SLICE_TOLERANCE * abs(distance):
        lengths = np.linalg.norm(steps, axis=1)
        raise VolumeError(
            f"{folder}: steps between {len(files)} slices range from {lengths.min():g} to {lengths.max():g} mm "
            f"(missing, double or tilted slices), expected even steps of {abs(distance):g} mm along the slice normal"
        )


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if not re.match(r"\S+\.[ch]xx:\d+:$", line.strip())]
    return f"{type(error).__name__}: {' '.join(lines)[:300]}"


def load_volume(path: str | os.PathLike, is_label: bool = False) -> MetaTensor:
    """
    Load one 3D volume.

    Args:
        path: .nii, .nii.gz, .nrrd, .mha, .mhd, or a folder that holds exactly one DICOM series. Trailing axes of
            size one, as in (x, y, z, 1), are dropped.
        is_label: see `check_volume`.

    Returns:
        A float32 MetaTensor (1, *spatial) with the axes of the file and its affine (voxels to RAS millimetres). Its
        metadata are affine, shape and file name only.

    Raises:
        VolumeError: the file is missing, truncated or cannot be read (the error of the reader is the cause), or
            `check_volume` refuses it.
    """
    name = os.path.expanduser(os.fspath(path))
    suffix = name.lower()
    try:
        affine = None
        if os.path.isdir(name):
            _check_dicom_series(name)
            reader = ITKReader()
        elif not os.path.exists(name):
            raise VolumeError(f"{name}: no such file or folder, expected a volume")
        elif suffix.endswith(NIFTI_SUFFIXES):
            affine = _nifti_affine(name)
            reader = NibabelReader()
        elif suffix.endswith(ITK_SUFFIXES):
            reader = ITKReader()
        else:
            raise VolumeError(
                f"{name}: unknown format, expected {', '.join(VOLUME_SUFFIXES)} or the folder of a DICOM series"
            )
        loaded = LoadImage(image_only=True, ensure_channel_first=True, dtype=np.float32)(name, reader=reader)
    except VolumeError:
        raise
    except Exception as error:  # of nibabel, zlib or ITK
        raise VolumeError(f"{name}: cannot be read, expected a complete volume file ({_reason(error)})") from error
    while loaded.ndim > 4 and loaded.shape[-1] == 1:
        loaded = loaded[..., 0]
    affine = torch.as_tensor(np.array(loaded.affine if affine is None else affine), dtype=torch.float64)
    meta = {key: loaded.meta[key] for key in META_KEYS}
    meta |= {MetaKeys.ORIGINAL_AFFINE: affine.numpy().copy(), "filename_or_obj": name}
    volume = MetaTensor(loaded.as_tensor().contiguous(), affine=affine, meta=meta)
    check_volume(volume, name, is_label)
    return volume


def check_same_grid(label: MetaTensor, image: MetaTensor) -> None:
    """Check that a label map lies on the voxels of its image: equal shape, all corners at most half a voxel apart.

    Args:
        label: (1, *spatial) from `load_volume`.
        image: (1, *spatial) from `load_volume`.

    Raises:
        VolumeError: shapes or corners differ.
    """
    label_name, image_name = label.meta["filename_or_obj"], image.meta["filename_or_obj"]
    if label.shape != image.shape:
        raise VolumeError(
            f"{label_name}: label map of shape {tuple(label.shape[1:])}, expected {tuple(image.shape[1:])}, the shape "
            f"of {image_name}"
        )
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in image.shape[1:]], indexing="ij")).reshape(3, -1)
    affine = np.asarray(image.affine)
    difference = np.asarray(label.affine) - affine
    distance = np.linalg.norm(difference[:3, :3] @ corners + difference[:3, 3:], axis=0).max()
    if distance > 0.5 * np.linalg.norm(affine[:3, :3], axis=0).min():
        raise VolumeError(f"{label_name}: label map lies up to {distance:.2f} mm off the voxels of {image_name}")
