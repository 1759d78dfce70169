# SPDX-License-Identifier: Apache-2.0
"""Slices of volumes in the orientation of radiology, and writing a figure to a file."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..files import atomic

PLANES = ("sagittal", "coronal", "axial")


def middle_plane(volume: np.ndarray, axis: int) -> np.ndarray:
    """The middle slice of a volume in the orientation of radiology.

    Anterior (axial) or superior is up; the patient's right (or, sagittal, the front) is on the left.

    Args:
        volume: (*spatial), axes in RAS order.
        axis: the axis across the slice.
    """
    return _plane(volume, axis, volume.shape[axis] // 2)


def fullest_plane(volume: np.ndarray, axis: int) -> np.ndarray:
    """As `middle_plane`, but the slice with the most voxels above zero, for an organ on a background of zeros."""
    voxels = (volume > 0).sum(axis=tuple(other for other in range(3) if other != axis))
    return _plane(volume, axis, int(voxels.argmax()))


def _plane(volume: np.ndarray, axis: int, index: int) -> np.ndarray:
    return volume.take(index, axis=axis).T[::-1, ::-1]


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG and free its memory; see `atomic`."""
    with atomic(path, "the picture") as temporary:
        figure.savefig(temporary, dpi=80)
    figure.clear()
    gc.collect()  # figures are cycles of 10 MB; a long training makes too few objects to have them collected in time
