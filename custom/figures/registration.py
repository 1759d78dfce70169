# SPDX-License-Identifier: Apache-2.0
"""A registered pair as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .colors import BLUE, ORANGE, SKY
from .planes import ORIENTATION, PLANES, ROWS, draw_outlines, draw_plane, extent, middle_plane, name_figure, pixel_size
from .window import GrayScale

GRID_STEP = 4  # voxels between two lines
STAGES = ("before", "affine", "after", "refined")
BETWEEN = {"affine": "affine stage", "after": "network"}  # stages that are not the last


class RegisteredPair(NamedTuple):
    """A moving volume, a fixed volume and the map between them; all on one grid, axes in RAS order.

    Attributes:
        moving: (*spatial), stored intensities.
        fixed: (*spatial).
        warped: the moving volume on the grid of the fixed one, (*spatial).
        displacement: (3, *spatial), voxels.
        spacing: voxel size in millimetres, of each axis.
        labels: label maps (*spatial) of moving, fixed and warped, or None.
    """

    moving: np.ndarray
    fixed: np.ndarray
    warped: np.ndarray
    displacement: np.ndarray
    spacing: Sequence[float]
    labels: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None


def registration_figure(
    pair: RegisteredPair, gray_scale: GrayScale, title: str = "", synthetic: bool = False
) -> Figure:
    """Fixed, moving, registered, differences before and after, and the deformed grid, in the three middle planes.

    With label maps, the outlines of the fixed structures are drawn on the first three columns, and those of the moving
    structures on the second and third. The grid shows where lines of the fixed grid lie in the moving volume.

    Args:
        pair: what is drawn.
        gray_scale: of the stored intensities.
        title: of the picture.
        synthetic: whether the volumes are phantoms.
    """
    moving, fixed, warped = (gray_scale.values(volume) for volume in (pair.moving, pair.fixed, pair.warped))
    low, high = gray_scale.limits(moving, fixed)
    gray = {"cmap": "gray", "vmin": low, "vmax": high}
    difference = {"cmap": "RdBu_r", "vmin": low - high, "vmax": high - low}
    columns = {
        "fixed": (fixed, gray),
        "moving": (moving, gray),
        "moving, registered": (warped, gray),
        "moving \N{MINUS SIGN} fixed": (moving - fixed, difference),
        "registered \N{MINUS SIGN} fixed": (warped - fixed, difference),
    }
    sizes = [pixel_size(pair.spacing, axis) for axis in ROWS]
    extents = [extent(middle_plane(fixed, axis), size) for axis, size in zip(ROWS, sizes, strict=True)]
    ratios = [height / width for height, width in extents]
    figure = Figure(figsize=(16, 2.6 * sum(ratios) + 1.6), layout="constrained")
    grid = figure.add_gridspec(len(ROWS) + 1, len(columns) + 1, height_ratios=[*ratios, 0.05])
    places = np.ndindex(len(ROWS), len(columns) + 1)
    plots = np.array([figure.add_subplot(grid[place]) for place in places]).reshape(len(ROWS), -1)
    for row, axis, size in zip(plots, ROWS, sizes, strict=True):
        for plot, (volume, style) in zip(row, columns.values(), strict=False):
            image = draw_plane(plot, middle_plane(volume, axis), axis, size, bar=plot is row[0], **style)
        if pair.labels is not None:
            _draw_structures(row[:3], pair.labels, axis)
        _draw_grid(row[-1], pair.displacement, axis, size)
        row[0].set_ylabel(PLANES[axis])
    for plot, name in zip(plots[0], [*columns, "deformed grid"], strict=True):
        plot.set_title(name, fontsize="medium")
    bar = figure.add_subplot(grid[-1, 3:5])
    figure.colorbar(image, cax=bar, orientation="horizontal", extend="both", label=f"difference ({gray_scale.unit})")
    if pair.labels is not None:
        lines = {"structures of fixed": SKY, "structures of moving": ORANGE}
        handles = [Line2D([], [], color=color, label=name) for name, color in lines.items()]
        legend = figure.add_subplot(grid[-1, :3])
        legend.set_axis_off()
        legend.legend(handles=handles, loc="center", ncols=2, frameon=False)
    name_figure(figure, title, (ORIENTATION, gray_scale.caption), synthetic)
    return figure


def registration_in_words(measures: Mapping[str, float]) -> str:
    """Measures of a pair as text: Dice 0.41 → 0.56 (affine stage 0.50), ...

    Args:
        measures: dice_STAGE and registration_STAGE with the stages before, affine, after and refined, and folded_share
            or folded_share_refined; those that are missing are left out.
    """
    parts = []
    for measure, name in (("dice", "Dice"), ("registration", "registration loss")):
        values = {stage: measures[f"{measure}_{stage}"] for stage in STAGES if f"{measure}_{stage}" in measures}
        if values:
            last = list(values)[-1]
            between = [f"{BETWEEN[stage]} {values[stage]:.2f}" for stage in values if stage not in ("before", last)]
            between = f" ({', '.join(between)})" if between else ""
            parts.append(f"{name} {values['before']:.2f} → {values[last]:.2f}{between}")
    folded = measures.get("folded_share_refined", measures.get("folded_share"))
    if folded is not None:
        parts.append(f"{100 * folded:.2f} % of the voxels folded")
    return ", ".join(parts)


def _draw_structures(plots: Sequence[Axes], labels: Sequence[np.ndarray], axis: int) -> None:
    """Outlines on the slices of fixed, moving and warped."""
    moving, fixed, warped = (middle_plane(volume, axis) for volume in labels)
    for plot in plots:
        draw_outlines(plot, fixed, SKY)
    draw_outlines(plots[1], moving, ORANGE)
    draw_outlines(plots[2], warped, ORANGE)


def _draw_grid(plot: Axes, displacement: np.ndarray, axis: int, size: tuple[float, float]) -> None:
    """Draws lines of the fixed grid at their positions in the moving volume, projected onto the plane across `axis`."""
    first, second = (other for other in range(3) if other != axis)
    shape = displacement.shape[1:]
    middle = shape[axis] // 2
    across, up = (displacement[channel].take(middle, axis=axis) for channel in (first, second))
    x = np.arange(shape[first])[:, None] + across
    y = np.arange(shape[second])[None, :] + up
    for index in range(0, shape[first], GRID_STEP):
        plot.plot(x[index], y[index], color=BLUE, linewidth=0.6)
    for index in range(0, shape[second], GRID_STEP):
        plot.plot(x[:, index], y[:, index], color=BLUE, linewidth=0.6)
    plot.set(xlim=(shape[first] - 0.5, -0.5), ylim=(-0.5, shape[second] - 0.5), xticks=[], yticks=[])
    plot.set_aspect(size[0] / size[1])
