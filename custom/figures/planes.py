# SPDX-License-Identifier: Apache-2.0
"""Slices of volumes as radiologists look at them, and the file of a figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

PLANES = ("sagittal", "coronal", "axial")


def middle_plane(volume: np.ndarray, axis: int) -> np.ndarray:
    """The middle slice across an axis of a RAS volume as radiologists look at it.

    Anterior (axial) or superior is up; the patient's right (or, sagittal, the front) is on the left.
    """
    return _plane(volume, axis, volume.shape[axis] // 2)


def fullest_plane(volume: np.ndarray, axis: int) -> np.ndarray:
    """As `middle_plane`, of the slice with the most voxels above zero: that of an organ cut out of its surroundings."""
    voxels = (volume > 0).sum(axis=tuple(other for other in range(3) if other != axis))
    return _plane(volume, axis, int(voxels.argmax()))


def _plane(volume: np.ndarray, axis: int, index: int) -> np.ndarray:
    return volume.take(index, axis=axis).T[::-1, ::-1]


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a PNG, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
