# SPDX-License-Identifier: Apache-2.0
"""Oblique, anisotropic grids and smooth images for the registration tests, and ITK as the judge."""

from __future__ import annotations

import itk
import numpy as np
from monai.transforms import Orientationd, Spacingd
from scipy.spatial.transform import Rotation

from custom.registration import CommonSized
from custom.transforms import CheckedLoadImaged

BOTH = ("moving", "fixed")
MOVING_CENTRE, FIXED_CENTRE = np.array([30.0, -40.0, 60.0]), np.array([-15.0, 25.0, 10.0])  # mm
PREPROCESSING = (
    CheckedLoadImaged(BOTH),
    Orientationd(BOTH, "RAS"),
    Spacingd(BOTH, (2.0, 2.2, 1.8)),
    CommonSized(BOTH),
)


def make_affine(shape, spacing, degrees, centre, flips=(1, 1, 1)) -> np.ndarray:
    """Voxels to RAS millimetres: rotated direction cosines, some axes reversed, the volume's centre at `centre`."""
    directions = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() * np.array(flips)
    affine = np.eye(4)
    affine[:3, :3] = directions * np.array(spacing)
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def points(affine, shape) -> np.ndarray:
    """Voxel centres in millimetres, (3, *shape)."""
    voxel = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    return np.tensordot(affine[:3, :3], voxel, axes=1) + affine[:3, 3].reshape(3, 1, 1, 1)


def moving_value(point) -> np.ndarray:
    """The moving patient, HU of a smooth thing around its centre, at points (3, ...) in mm."""
    x, y, z = point - MOVING_CENTRE.reshape(3, *[1] * (point.ndim - 1))
    blob = 800 * np.exp(-(((x - 6) / 14) ** 2) - ((y + 5) / 11) ** 2 - ((z - 4) / 17) ** 2)
    return blob + 120 * np.sin(x / 9) * np.cos(y / 11) + 90 * np.sin(z / 8 + x / 20)


def corresponding_point(point) -> np.ndarray:
    """The planted map, fixed patient -> moving patient, in mm: turn(p - c_F + bend(p - c_F)) + c_M."""
    ones = [1] * (point.ndim - 1)
    turn = Rotation.from_euler("xyz", [4, -6, 8], degrees=True).as_matrix()
    x, y, z = centred = point - FIXED_CENTRE.reshape(3, *ones)
    bend = np.stack([3 * np.sin(y / 15), 2.5 * np.cos(z / 14) - 1, 2 * np.sin(x / 13 + 0.5)])
    return np.tensordot(turn, centred + bend, axes=1) + MOVING_CENTRE.reshape(3, *ones)


def itk_resample(moving_file, field, fixed_file, background=0.0, nearest=False) -> np.ndarray:
    """The moving file through an ITK field on the fixed file's grid, (*shape), array order i, j, k."""
    moving, fixed = (itk.imread(str(file), itk.F) for file in (moving_file, fixed_file))
    transform = itk.DisplacementFieldTransform[itk.D, 3].New()
    transform.SetDisplacementField(field)
    image_type = itk.Image[itk.F, 3]
    resample = itk.ResampleImageFilter[image_type, image_type].New(Input=moving, Transform=transform)
    resample.SetReferenceImage(fixed)
    resample.UseReferenceImageOn()
    interpolator = itk.NearestNeighborInterpolateImageFunction if nearest else itk.LinearInterpolateImageFunction
    resample.SetInterpolator(interpolator[image_type, itk.D].New())
    resample.SetDefaultPixelValue(background)
    resample.Update()
    return itk.array_from_image(resample.GetOutput()).transpose(2, 1, 0)


def itk_read_field(path, change=lambda vectors: vectors) -> itk.VectorImage:
    """A vector file as ITK's displacement field in double, its vectors (k, j, i, 3) changed on the way."""
    read = itk.imread(str(path), itk.Vector[itk.F, 3])
    field = itk.image_from_array(change(itk.array_from_image(read)).astype(np.float64), is_vector=True)
    field.SetOrigin(read.GetOrigin())
    field.SetSpacing(read.GetSpacing())
    field.SetDirection(read.GetDirection())
    return field
