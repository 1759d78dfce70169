# SPDX-License-Identifier: Apache-2.0
"""Pictures of a classification test: the ROC curve, and the planes of a case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from .colors import BLUE, VERMILION
from .planes import ORIENTATION, PLANES, ROWS, draw_plane, extent, fullest_plane, name_figure, pixel_size
from .window import GrayScale


class OrganPlanes(NamedTuple):
    """Axial, coronal and sagittal plane where most of an organ lies, which stands on a background of zeros.

    Attributes:
        image: three planes, (height, width) each, stored intensities.
        sizes: height and width of a pixel of each plane, millimetres.
    """

    image: list[np.ndarray]
    sizes: list[tuple[float, float]]


def organ_planes(image: np.ndarray, spacing: np.ndarray) -> OrganPlanes:
    """The planes of a volume; small enough to store for each case.

    Args:
        image: (*spatial), axes in RAS order.
        spacing: voxel size in millimetres, of each axis.
    """
    planes = [fullest_plane(image, axis).astype(np.float16) for axis in ROWS]
    return OrganPlanes(planes, [pixel_size(spacing, axis) for axis in ROWS])


def roc_figure(
    curve: tuple[np.ndarray, np.ndarray], at_threshold: Mapping[str, Any], title: str, synthetic: bool = False
) -> Figure:
    """The ROC curve with the point of the threshold.

    Args:
        curve: 1 - specificity and sensitivity, (points,) each.
        at_threshold: "threshold", and "sensitivity" and "specificity" at it.
        title: of the picture.
        synthetic: whether the cases are phantoms.
    """
    figure = Figure(figsize=(6.5, 7), layout="constrained")
    plot = figure.subplots()
    plot.plot(*curve, color=BLUE, clip_on=False)
    plot.plot([0, 1], [0, 1], color="gray", linewidth=0.8, linestyle="--", label="chance")
    sensitivity, specificity = at_threshold["sensitivity"], at_threshold["specificity"]
    label = f"threshold {at_threshold['threshold']:g}: sensitivity {sensitivity:.2f}, specificity {specificity:.2f}"
    plot.plot(1 - specificity, sensitivity, "o", color=VERMILION, label=label, clip_on=False)
    plot.set(xlabel="1 \N{MINUS SIGN} specificity", ylabel="sensitivity", aspect="equal", xlim=(0, 1), ylim=(0, 1))
    plot.legend(loc="lower right")
    name_figure(figure, title, synthetic=synthetic)
    return figure


def planes_figure(
    planes: OrganPlanes, title: str, gray_scale: GrayScale, wrong: bool = False, synthetic: bool = False
) -> Figure:
    """Axial, coronal and sagittal plane side by side.

    Args:
        planes: see `organ_planes`.
        title: of the picture; it is red for a misclassified case.
        gray_scale: of the image.
        wrong: whether the case is misclassified.
        synthetic: whether the volume is a phantom.
    """
    image = [gray_scale.values(pixels) for pixels in planes.image]
    low, high = gray_scale.limits(*image)
    widths = [width for _, width in map(extent, image, planes.sizes)]  # millimetres: all planes have one scale
    figure = Figure(figsize=(12, 5), layout="constrained")
    plots = figure.subplots(1, len(ROWS), width_ratios=widths)
    for plot, pixels, axis, size in zip(plots, image, ROWS, planes.sizes, strict=True):
        draw_plane(plot, pixels, axis, size, bar=True, cmap="gray", vmin=low, vmax=high)
        plot.set_title(PLANES[axis], fontsize="medium")
    name_figure(figure, title, (ORIENTATION, gray_scale.caption), synthetic, color=VERMILION if wrong else "black")
    return figure
