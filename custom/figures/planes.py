# SPDX-License-Identifier: Apache-2.0
"""Slices of volumes in the orientation of radiology, and writing a figure to a file."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke

from ..files import atomic

PLANES = ("sagittal", "coronal", "axial")
ROWS = (2, 1, 0)  # the planes from top to bottom of a picture: axial, coronal, sagittal
ORIENTATION = "Radiological orientation: the patient's right (R) is on the left."
SYNTHETIC = "Synthetic data (phantoms), no patient"
EDGES = ("APSI", "RLSI", "RLAP")  # what lies left, right, above and below in a plane
MARKS = ((0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center"), (0.5, 0.98, "center", "top"))
MARKS += ((0.5, 0.02, "center", "bottom"),)
ON_IMAGE = {"color": "white", "fontsize": "small", "fontweight": "bold"}
OUTLINE = withStroke(linewidth=2, foreground="black")  # white text and lines stay readable on white tissue
BARS = (100, 50, 20, 10, 5, 2, 1)  # mm


def middle_plane(volume: np.ndarray, axis: int) -> np.ndarray:
    """The middle slice of a volume in the orientation of radiology, see `plane`."""
    return plane(volume, axis, volume.shape[axis] // 2)


def fullest_plane(volume: np.ndarray, axis: int) -> np.ndarray:
    """As `middle_plane`, but the slice with the most voxels above zero, for an organ on a background of zeros."""
    voxels = (volume > 0).sum(axis=tuple(other for other in range(3) if other != axis))
    return plane(volume, axis, int(voxels.argmax()))


def plane(volume: np.ndarray, axis: int, index: int) -> np.ndarray:
    """A slice of a volume in the orientation of radiology, (height, width).

    Anterior (axial) or superior is up; the patient's right (or, sagittal, the front) is on the left.

    Args:
        volume: (*spatial), axes in RAS order.
        axis: the axis across the slice.
        index: of the slice along the axis.
    """
    return volume.take(index, axis=axis).T[::-1, ::-1]


def pixel_size(spacing: Sequence[float], axis: int) -> tuple[float, float]:
    """Height and width of a pixel of a slice, in millimetres.

    Args:
        spacing: voxel size of the volume in millimetres, axes in RAS order.
        axis: the axis across the slice.
    """
    width, height = (float(size) for other, size in enumerate(spacing) if other != axis)
    return height, width


def extent(pixels: np.ndarray, size: tuple[float, float]) -> tuple[float, float]:
    """Height and width of a slice in millimetres, from its pixels and `pixel_size`."""
    return pixels.shape[0] * size[0], pixels.shape[1] * size[1]


def draw_plane(
    plot: Axes, pixels: np.ndarray, axis: int, size: tuple[float, float], bar: bool = False, **style: Any
) -> AxesImage:
    """Draws a slice with the right proportions and marks its edges: R, L, A, P, S, I.

    Args:
        plot: where to draw.
        pixels: slice from `plane`, (height, width) or RGBA (height, width, 4).
        axis: the axis across the slice.
        size: see `pixel_size`.
        bar: draw a scale bar, too.
        style: of `imshow`.
    """
    image = plot.imshow(pixels, aspect=size[0] / size[1], **style)
    plot.set(xticks=[], yticks=[])
    plot.autoscale(False)
    for letter, (x, y, horizontal, vertical) in zip(EDGES[axis], MARKS, strict=True):
        text = plot.text(x, y, letter, transform=plot.transAxes, ha=horizontal, va=vertical, **ON_IMAGE)
        text.set_path_effects([OUTLINE])
    if bar:
        draw_scale_bar(plot, pixels.shape[:2], size[1])
    return image


def draw_scale_bar(plot: Axes, shape: tuple[int, int], width: float) -> None:
    """Draws a bar of at most 40 % of a slice, with its length in millimetres, at the lower left.

    Args:
        plot: with a slice.
        shape: height and width of the slice in pixels.
        width: of a pixel in millimetres.
    """
    rows, columns = shape
    length = next((bar for bar in BARS if bar <= 0.4 * columns * width), BARS[-1])
    start, level = 0.04 * columns, 0.94 * rows
    (line,) = plot.plot([start, start + length / width], [level, level], color="white", linewidth=2)
    line.set_path_effects([withStroke(linewidth=4, foreground="black")])
    text = plot.text(start, 0.92 * rows, f"{length} mm", ha="left", va="bottom", **ON_IMAGE)
    text.set_path_effects([OUTLINE])


def draw_outlines(plot: Axes, labels: np.ndarray, color: Any, linestyle: str = "-") -> None:
    """Draws the outline of each structure of a slice.

    Args:
        plot: with the slice.
        labels: label map, (height, width); 0 is background.
        color: of all outlines.
        linestyle: of all outlines.
    """
    for value in np.unique(labels[labels != 0]):
        inside = labels == value
        if not inside.all():
            plot.contour(inside, levels=[0.5], colors=[color], linewidths=1.1, linestyles=linestyle)


def name_figure(
    figure: Figure,
    title: str,
    notes: Sequence[str] = (),
    synthetic: bool = False,
    color: str = "black",
    legend: Sequence[Artist] = (),
) -> None:
    """Writes the title above a figure, and notes and a legend below.

    Args:
        figure: a picture of volumes.
        title: what is shown.
        notes: sentences, such as the CT window.
        synthetic: whether phantoms are shown, which the title then says.
        color: of the title.
        legend: labelled entries of the legend.
    """
    figure.suptitle(f"{SYNTHETIC}\n{title}" if synthetic else title, color=color)
    small = {"fontsize": "small", "title_fontsize": "small"}
    figure.legend(handles=legend, title=" ".join(notes), loc="outside lower center", ncols=6, frameon=False, **small)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG and free its memory; see `atomic`."""
    with atomic(path, "the picture") as temporary:
        figure.savefig(temporary, dpi=80)
    figure.clear()
    gc.collect()  # figures are cycles of 10 MB; a long training makes too few objects to have them collected in time
