# SPDX-License-Identifier: Apache-2.0
"""Pictures of a classification test: the ROC curve, and the planes of a case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .planes import PLANES


def roc_figure(curve: tuple[np.ndarray, np.ndarray], at_threshold: Mapping[str, Any], title: str) -> Figure:
    """The ROC curve with the point of the threshold.

    Args:
        curve: 1 - specificity and sensitivity, (points,) each.
        at_threshold: "threshold", and "sensitivity" and "specificity" at it.
        title: of the picture.
    """
    figure = Figure(figsize=(5, 5), layout="constrained")
    plot = figure.subplots()
    plot.plot(*curve, color="tab:blue")
    plot.plot([0, 1], [0, 1], color="lightgray", linewidth=0.8)
    point = (1 - at_threshold["specificity"], at_threshold["sensitivity"])
    plot.plot(*point, "o", color="tab:orange", label=f"threshold {at_threshold['threshold']:g}")
    plot.set(xlabel="1 - specificity", ylabel="sensitivity", title=title, aspect="equal")
    plot.legend(loc="lower right")
    return figure


def planes_figure(planes: list[np.ndarray], title: str) -> Figure:
    """Axial, coronal and sagittal plane side by side.

    Args:
        planes: (height, width) each, in this order.
        title: of the picture.
    """
    figure = Figure(figsize=(11, 4), layout="constrained")
    low, high = np.percentile(np.concatenate([plane.ravel() for plane in planes]).astype(np.float32), (1, 99))
    for plot, plane, axis in zip(figure.subplots(1, 3), planes, (2, 1, 0), strict=True):
        plot.imshow(plane.astype(np.float32), cmap="gray", vmin=low, vmax=high)
        plot.set(xticks=[], yticks=[], title=PLANES[axis])
    figure.suptitle(title)
    return figure
