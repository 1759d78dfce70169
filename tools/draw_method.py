# SPDX-License-Identifier: Apache-2.0
"""The picture of the method: python -m tools.draw_method --moving FILE --fixed FILE --output FILE.png

The slices are of two volumes that register.json of gvsl_pretrain registers; see draw_registration.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from custom.figures import middle_plane
from custom.running import run_tool
from custom.transforms import RandBezierIntensityd, RandInPaintingd, RandLocalShuffled

from .draw_registration import CONFIGS, read_pair, register
from .small_picture import save_small

WIDTH, HEIGHT = 16.0, 7.0  # units of the drawing
INCHES = 0.8  # of a unit of the drawing
THUMBNAIL = 2.0  # side of a slice
LEVELS = (1.9, 1.45, 1.0, 0.6, 1.0, 1.45, 1.9)  # heights of the levels of the U-Net
NETWORK, HEAD, LOSS = "#CDE3F2", "#D7EFE6", "#FBE7C6"  # light blue, green and orange of Okabe and Ito
EDGE = "#404040"
A_ROW, B_ROW = 5.25, 1.75  # heights of the rows of the two volumes

Point = tuple[float, float]


def main(
    moving: str,
    fixed: str,
    output: str,
    model_dir: str = str(CONFIGS.parent / "models" / "brain"),
    refine: int = 60,
) -> None:
    """Draws the method with slices of two volumes. The arguments are those of tools.draw_registration."""
    with tempfile.TemporaryDirectory() as folder:
        register(moving, fixed, folder, model_dir, refine)
        pair, _ = read_pair(Path(folder))
    slices = [middle_plane(volume, 2) for volume in (pair.moving, damaged(pair.moving), pair.fixed, pair.warped)]
    save_small(method_figure(*slices), Path(output))


def damaged(volume: np.ndarray) -> np.ndarray:
    """The volume after the transforms of train.json that the restoration head undoes."""
    item = {"volume": torch.as_tensor(np.clip(volume, 0, 1)[None], dtype=torch.float32)}
    for transform in (RandLocalShuffled("volume"), RandBezierIntensityd("volume"), RandInPaintingd("volume")):
        transform.set_random_state(seed=1)
        item = transform(item)
    return item["volume"][0].numpy()


def method_figure(moving: np.ndarray, transformed: np.ndarray, fixed: np.ndarray, warped: np.ndarray) -> Figure:
    """The diagram of GVSL.

    Args:
        moving: slice of volume A, (height, width), gray values from 0 to 1.
        transformed: the slice of its damaged copy.
        fixed: slice of volume B.
        warped: slice of A, registered to B.
    """
    figure = Figure(figsize=(INCHES * WIDTH, INCHES * HEIGHT))
    plot = figure.add_axes((0, 0, 1, 1))
    plot.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
    plot.set_axis_off()

    thumbnail(plot, moving, (1.1, A_ROW), "volume A (moving)")
    thumbnail(plot, transformed, (3.75, A_ROW), "A, damaged")
    thumbnail(plot, fixed, (3.75, B_ROW), "volume B (fixed)")
    arrow(plot, (2.05, A_ROW), (2.85, A_ROW), "damage")

    for row in (A_ROW, B_ROW):
        arrow(plot, (4.65, row), (5.3, row))
        u_net(plot, (6.6, row))
    plot.plot([6.6, 6.6], [B_ROW + 1.1, A_ROW - 1.1], color=EDGE, linewidth=1.2, linestyle=(0, (4, 3)))
    plot.text(6.45, (A_ROW + B_ROW) / 2, "3D U-Net\nshared weights", ha="right", va="center", fontsize=13)

    for start, end in (((7.85, A_ROW - 0.3), (8.85, 4.3)), ((7.85, B_ROW + 0.3), (8.85, 2.7))):
        arrow(plot, start, end)
    plot.text(8.2, (A_ROW + B_ROW) / 2, "bottleneck\nand local\nfeatures", ha="center", va="center", fontsize=11)
    box(plot, (8.85, 1.55), (3.5, 3.6), "", HEAD)
    plot.text(10.6, 4.83, "Z-matching head", ha="center", va="center", fontsize=13, fontweight="bold")
    box(plot, (9.1, 3.6), (3.0, 0.9), "affine head:\n3 × 4 matrix", "white")
    box(plot, (9.1, 1.8), (3.0, 0.9), "deformable head:\nlocal displacement", "white")
    arrow(plot, (10.6, 3.6), (10.6, 2.7), "moves the\nfeatures of A", at=(10.72, 3.15), ha="left")
    arrow(plot, (10.6, 1.8), (10.6, 1.25))
    box(plot, (9.1, 0.35), (3.0, 0.9), "smoothness loss,\ncontrast of matches", LOSS)

    arrow(plot, (7.85, A_ROW + 0.3), (8.85, 6.15), "local features", at=(8.0, 6.42))
    box(plot, (8.85, 5.7), (3.5, 0.9), "restoration head", HEAD, bold=True)
    arrow(plot, (12.35, 6.15), (12.95, 6.15))
    box(plot, (12.95, 5.7), (2.8, 0.9), "restoration loss:\nsquared error to A", LOSS)

    arrow(plot, (12.35, 3.95), (13.35, 3.95))
    thumbnail(plot, warped, (14.35, 3.95), "A, registered to B")
    arrow(plot, (14.35, 2.5), (14.35, 2.05))
    box(plot, (12.95, 1.15), (2.8, 0.9), "registration loss of both\nstages: 1 \N{MINUS SIGN} NCC²", LOSS)
    plot.plot([3.75, 3.75, 14.35], [0.4, 0.22, 0.22], color=EDGE, linewidth=1.4)
    arrow(plot, (14.35, 0.22), (14.35, 1.15))
    return figure


def thumbnail(plot: Axes, pixels: np.ndarray, centre: Point, name: str) -> None:
    """A slice in a frame, with its name below."""
    height, width = pixels.shape
    half = np.array([width, height]) / max(pixels.shape) * THUMBNAIL / 2
    left, bottom = centre - half
    plot.imshow(pixels, cmap="gray", vmin=0, vmax=1, extent=(left, left + 2 * half[0], bottom, bottom + 2 * half[1]))
    plot.add_patch(Rectangle((left, bottom), *(2 * half), fill=False, edgecolor=EDGE, linewidth=1))
    plot.text(centre[0], bottom - 0.1, name, ha="center", va="top", fontsize=13)


def u_net(plot: Axes, centre: Point) -> None:
    """The levels of a U-Net as bars, higher for higher resolution, and its skip connections."""
    xs = centre[0] + 0.36 * (np.arange(len(LEVELS)) - len(LEVELS) // 2)
    for x, height in zip(xs, LEVELS, strict=True):
        corner = (x - 0.12, centre[1] - height / 2)
        plot.add_patch(Rectangle(corner, 0.24, height, facecolor=NETWORK, edgecolor=EDGE, linewidth=1.2))


def box(plot: Axes, corner: Point, size: Point, text: str, color: str, bold: bool = False) -> None:
    """A rounded box with text; `corner` is the lower left one."""
    style = "round,pad=0,rounding_size=0.12"
    plot.add_patch(FancyBboxPatch(corner, *size, boxstyle=style, facecolor=color, edgecolor=EDGE, linewidth=1.2))
    style = {"ha": "center", "va": "center", "fontsize": 13, "fontweight": "bold" if bold else "normal"}
    plot.text(corner[0] + size[0] / 2, corner[1] + size[1] / 2, text, **style)


def arrow(plot: Axes, start: Point, end: Point, text: str = "", at: Point | None = None, ha: str = "center") -> None:
    """An arrow with text above its middle, or at `at`."""
    style = {"arrowstyle": "-|>", "mutation_scale": 16, "color": EDGE, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}
    plot.add_patch(FancyArrowPatch(start, end, **style))
    x, y = at or ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.12)
    plot.text(x, y, text, ha=ha, va="center" if at else "bottom", fontsize=11)


if __name__ == "__main__":
    run_tool(main)
