# SPDX-License-Identifier: Apache-2.0
"""A segmented volume as a picture: in three planes the image, the image with the reference, and with the prediction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, io_orientation

from .planes import PLANES


class Planes(NamedTuple):
    """Axial, coronal and sagittal plane through the middle of the reference, in the orientation of radiology.

    Attributes:
        image: three planes, (height, width) each.
        reference: label maps on the same planes.
        prediction: label maps on the same planes.
        aspect: height of a pixel divided by its width, of each plane.
    """

    image: list[np.ndarray]
    reference: list[np.ndarray]
    prediction: list[np.ndarray]
    aspect: list[float]


def middle_planes(
    image: np.ndarray, reference: np.ndarray, prediction: np.ndarray, affine: np.ndarray, projected: bool = False
) -> Planes:
    """The planes of a volume and its label maps, turned to the closest RAS order; small enough to store for each case.

    Args:
        image: (*spatial).
        reference: label map, (*spatial).
        prediction: label map, (*spatial).
        affine: (4, 4), voxels to millimetres in RAS, of all three.
        projected: project the label maps through the whole volume, for vessels.
    """
    orientation = io_orientation(affine)
    turned = [apply_orientation(volume, orientation) for volume in (image, reference, prediction)]
    spacing = voxel_sizes(affine)[np.argsort(orientation[:, 0])]
    inside = np.argwhere(turned[1] > 0)
    centre = np.median(inside, axis=0).astype(int) if len(inside) else np.array(turned[1].shape) // 2
    planes: list[list[np.ndarray]] = [[], [], []]
    aspect = []
    for axis in (2, 1, 0):
        across, up = (size for other, size in enumerate(spacing) if other != axis)
        aspect.append(float(up / across))
        for of_volume, volume, kind in zip(planes, turned, (np.float16, np.uint8, np.uint8), strict=True):
            plane = volume.max(axis) if projected and kind is np.uint8 else volume.take(centre[axis], axis=axis)
            of_volume.append(np.ascontiguousarray(plane.T[::-1, ::-1]).astype(kind))
    return Planes(*planes, aspect)


def segmentation_figure(planes: Planes, structures: Mapping[str, int], title: str = "") -> Figure:
    """Rows: axial, coronal, sagittal; columns: image, reference, prediction with the outline of the reference.

    Args:
        planes: see `middle_planes`.
        structures: name -> value in the label maps.
        title: of the picture.
    """
    low, high = np.percentile(np.concatenate([plane.ravel() for plane in planes.image]).astype(np.float32), (1, 99))
    colors = structure_colors(len(structures))
    figure = Figure(figsize=(11, 10), layout="constrained")
    axes = figure.subplots(3, 3)
    for row, axis in enumerate((2, 1, 0)):
        maps = {"image": None, "reference": planes.reference[row], "prediction": planes.prediction[row]}
        for plot, (name, labels) in zip(axes[row], maps.items(), strict=True):
            plot.imshow(
                planes.image[row].astype(np.float32), cmap="gray", vmin=low, vmax=high, aspect=planes.aspect[row]
            )
            plot.set(xticks=[], yticks=[], title=name if row == 0 else "")
            if labels is not None:
                plot.imshow(_overlay(labels, structures.values(), colors), aspect=planes.aspect[row])
            for value, color in zip(structures.values(), colors, strict=True):
                outlined = planes.reference[row] == value
                if name == "prediction" and outlined.any() and not outlined.all():
                    plot.contour(outlined, levels=[0.5], colors=[color], linewidths=0.8)
        axes[row, 0].set_ylabel(PLANES[axis])
    handles = [Patch(color=color, label=name) for color, name in zip(colors, structures, strict=True)]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize="small")
    figure.suptitle(title)
    return figure


def structure_colors(count: int) -> list[tuple[float, ...]]:
    """A color for each structure, RGB or RGBA; colors next to each other in the list differ much."""
    if count <= 20:
        return list(matplotlib.colormaps["tab10" if count <= 10 else "tab20"].colors[:count])
    rainbow = matplotlib.colormaps["gist_rainbow"].resampled(count)
    step = next(step for step in range(round(0.38 * count), count) if math.gcd(step, count) == 1)
    return [rainbow(index * step % count) for index in range(count)]


def _overlay(labels: np.ndarray, values: Iterable[int], colors: Sequence[tuple[float, ...]]) -> np.ndarray:
    """An RGBA picture (height, width, 4) of a label map in half transparent colors; other values are transparent."""
    overlay = np.zeros((*labels.shape, 4))
    for value, color in zip(values, colors, strict=True):
        overlay[labels == value] = [*color[:3], 0.45]
    return overlay
