# SPDX-License-Identifier: Apache-2.0
"""Checks of voxel grids, the error of volumes, and warnings that are logged once."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence

import numpy as np

logger = logging.getLogger(__name__)

SPACING_RANGE = (0.01, 100.0)  # mm; outside of it the unit in the file is not what the file says
MAX_EXTENT = 5000.0  # mm along one axis; a longer volume is no patient, and resampling it needs terabytes


class VolumeError(ValueError):
    """A volume that cannot be used. The message names the file, what was found and what was expected."""


@functools.cache
def warn_once(message: str) -> None:
    """Log a warning, once for each message and process."""
    logger.warning(message)


def check_affine(affine: np.ndarray, name: str, shape: Sequence[int] = (), unit: str = "") -> None:
    """
    Check the affine of a volume.

    Args:
        affine: (4, 4), from voxels to millimetres.
        name: file or key, for the message.
        shape: number of voxels along each axis, to check the extent; empty for no such check.
        unit: unit that the file declares, for the message.

    Raises:
        VolumeError: the spacing is not finite, not positive or outside `SPACING_RANGE`, an axis is longer than
            `MAX_EXTENT`, or two axes are dependent.
    """
    matrix = affine[:3, :3]
    spacing = np.linalg.norm(matrix, axis=0)
    rounded = [float(f"{size:.6g}") for size in spacing]
    declared = f" (the file says {unit})" if unit else ""
    if not np.isfinite(affine).all() or not (spacing > 0).all():
        raise VolumeError(
            f"{name}: voxel spacing {rounded} mm{declared}, affine {affine.tolist()}, expected finite spacing above "
            "zero"
        )
    smallest, largest = SPACING_RANGE
    if spacing.min() < smallest or spacing.max() > largest:
        raise VolumeError(f"{name}: voxel spacing {rounded} mm{declared}, expected {smallest:g} to {largest:g} mm")
    if len(shape) == 3 and (spacing * shape).max() > MAX_EXTENT:
        extent = [round(float(length)) for length in spacing * shape]
        raise VolumeError(
            f"{name}: extent {extent} mm (voxel spacing {rounded} mm{declared}, {tuple(shape)} voxels), expected at "
            f"most {MAX_EXTENT:g} mm along an axis"
        )
    if abs(np.linalg.det(matrix / spacing)) < 1e-6:
        raise VolumeError(f"{name}: singular affine {affine.tolist()}, expected three independent axes")
