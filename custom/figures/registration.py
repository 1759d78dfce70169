# SPDX-License-Identifier: Apache-2.0
"""A registered pair as a picture."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from .planes import PLANES, middle_plane

GRAY = {"cmap": "gray", "vmin": 0, "vmax": 1}
DIFFERENCE = {"cmap": "RdBu_r", "vmin": -0.5, "vmax": 0.5}


def registration_figure(
    moving: np.ndarray, fixed: np.ndarray, warped: np.ndarray, displacement: np.ndarray, title: str = ""
) -> Figure:
    """Moving, fixed, warped, differences before and after, and the deformed grid, in the three middle planes.

    The grid shows the positions of every fourth line of the fixed grid in the moving volume.

    Args:
        moving: (*spatial), [0, 1].
        fixed: (*spatial), [0, 1].
        warped: the moving volume on the grid of the fixed one, (*spatial), [0, 1].
        displacement: (3, *spatial), voxels.
        title: of the picture.
    """
    columns = {
        "moving": (moving, GRAY),
        "fixed": (fixed, GRAY),
        "warped": (warped, GRAY),
        "moving - fixed": (moving - fixed, DIFFERENCE),
        "warped - fixed": (warped - fixed, DIFFERENCE),
    }
    figure = Figure(figsize=(16, 8.5), layout="constrained")
    axes = figure.subplots(3, len(columns) + 1)
    for row, axis in enumerate((2, 1, 0)):
        for column, (name, (volume, style)) in enumerate(columns.items()):
            axes[row, column].imshow(middle_plane(volume, axis), **style)
            axes[0, column].set_title(name)
        _draw_grid(axes[row, -1], displacement, axis)
        axes[row, 0].set_ylabel(PLANES[axis])
    axes[0, -1].set_title("deformed grid")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], aspect="equal")
    figure.suptitle(title)
    return figure


def _draw_grid(plot: matplotlib.axes.Axes, displacement: np.ndarray, axis: int, step: int = 4) -> None:
    """Draws lines of the fixed grid at their positions in the moving volume, projected onto the plane across `axis`."""
    first, second = (other for other in range(3) if other != axis)
    shape = displacement.shape[1:]
    middle = shape[axis] // 2
    across, up = (displacement[channel].take(middle, axis=axis) for channel in (first, second))
    x = np.arange(shape[first])[:, None] + across
    y = np.arange(shape[second])[None, :] + up
    for index in range(0, shape[first], step):
        plot.plot(x[index], y[index], color="tab:blue", linewidth=0.6)
    for index in range(0, shape[second], step):
        plot.plot(x[:, index], y[:, index], color="tab:blue", linewidth=0.6)
    plot.set(xlim=(shape[first] - 0.5, -0.5), ylim=(-0.5, shape[second] - 0.5))
