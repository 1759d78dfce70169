# SPDX-License-Identifier: Apache-2.0
"""A segmented volume as a picture: in three planes the image, the reference, the prediction and where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from nibabel.affines import voxel_sizes
from nibabel.orientations import apply_orientation, io_orientation

from .colors import colored, legend_patches
from .planes import ORIENTATION, PLANES, ROWS, draw_plane, extent, name_figure, pixel_size, plane
from .window import UNITLESS, GrayScale

COLUMN, MARGIN = 3.4, 2.2  # inches: width of a column, height of title and legend
OPACITY = 0.5  # of label maps on the image
DIFFERENCES = "where they differ"


class Planes(NamedTuple):
    """Axial, coronal and sagittal plane through the middle of the reference, in the orientation of radiology.

    Attributes:
        image: three planes, (height, width) each.
        reference: label maps on the same planes.
        prediction: label maps on the same planes.
        sizes: height and width of a pixel of each plane, millimetres.
    """

    image: list[np.ndarray]
    reference: list[np.ndarray]
    prediction: list[np.ndarray]
    sizes: list[tuple[float, float]]


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
    image, reference, prediction = (apply_orientation(volume, orientation) for volume in (image, reference, prediction))
    spacing = voxel_sizes(affine)[np.argsort(orientation[:, 0])]
    inside = np.argwhere(reference > 0)
    centre = np.median(inside, axis=0).astype(int) if len(inside) else np.array(reference.shape) // 2

    def label_plane(label: np.ndarray, axis: int) -> np.ndarray:
        across = plane(label.max(axis, keepdims=True), axis, 0) if projected else plane(label, axis, centre[axis])
        return np.ascontiguousarray(across).astype(np.int32)

    return Planes(
        [np.ascontiguousarray(plane(image, axis, centre[axis])).astype(np.float16) for axis in ROWS],
        [label_plane(reference, axis) for axis in ROWS],
        [label_plane(prediction, axis) for axis in ROWS],
        [pixel_size(spacing, axis) for axis in ROWS],
    )


def segmentation_figure(
    planes: Planes,
    structures: Mapping[str, int],
    title: str = "",
    gray_scale: GrayScale = UNITLESS,
    synthetic: bool = False,
) -> Figure:
    """Rows: axial, coronal, sagittal; columns: image, reference, prediction, and the pixels where the last two differ.

    Args:
        planes: see `middle_planes`.
        structures: name -> value in the label maps.
        title: of the picture.
        gray_scale: of the image.
        synthetic: whether the volume is a phantom.
    """
    overlays = {"reference": _colored(planes.reference, structures)}
    overlays["prediction"] = _colored(planes.prediction, structures)
    pairs = zip(planes.reference, planes.prediction, strict=True)
    overlays[DIFFERENCES] = [_filled(reference != prediction, "red") for reference, prediction in pairs]
    return _figure(planes, overlays, structures, title, gray_scale, synthetic)


def comparison_figure(
    predictions: Mapping[str, Planes],
    structures: Mapping[str, int],
    title: str = "",
    gray_scale: GrayScale = UNITLESS,
    synthetic: bool = False,
) -> Figure:
    """One case as several methods segment it. Columns: image, reference, the prediction of each method.

    Args:
        predictions: name of the method -> planes of the case.
        structures: see `segmentation_figure`, as the next ones.
        title: of the picture.
        gray_scale: of the image.
        synthetic: whether the volume is a phantom.

    Raises:
        ValueError: the planes are of different cases.
    """
    planes = next(iter(predictions.values()))
    for name, other in predictions.items():
        if not all(map(np.array_equal, other.reference, planes.reference)):
            raise ValueError(f"the planes of {name} are of another case, expected that of {next(iter(predictions))}")
    overlays = {"reference": _colored(planes.reference, structures)}
    overlays |= {name: _colored(other.prediction, structures) for name, other in predictions.items()}
    return _figure(planes, overlays, structures, title, gray_scale, synthetic)


def _figure(
    planes: Planes,
    overlays: Mapping[str, list[np.ndarray]],
    structures: Mapping[str, int],
    title: str,
    gray_scale: GrayScale,
    synthetic: bool,
) -> Figure:
    """The image alone, then a column for each overlay."""
    image = [gray_scale.values(pixels) for pixels in planes.image]
    low, high = gray_scale.limits(*image)
    extents = map(extent, image, planes.sizes)
    ratios = [height / width for height, width in extents]
    columns = len(overlays) + 1
    figure = Figure(figsize=(COLUMN * columns, COLUMN * sum(ratios) + MARGIN), layout="constrained")
    plots = figure.subplots(len(ROWS), columns, height_ratios=ratios)
    for number, (row, axis) in enumerate(zip(plots, ROWS, strict=True)):
        size = planes.sizes[number]
        for plot, pixels in zip(row, (None, *(overlay[number] for overlay in overlays.values())), strict=True):
            draw_plane(plot, image[number], axis, size, bar=pixels is None, cmap="gray", vmin=low, vmax=high)
            if pixels is not None:
                plot.imshow(pixels, aspect=size[0] / size[1])
        row[0].set_ylabel(PLANES[axis])
    for plot, name in zip(plots[0], ("image", *overlays), strict=True):
        plot.set_title(name, fontsize="medium")
    legend = legend_patches(list(structures))
    name_figure(figure, title, (ORIENTATION, gray_scale.caption), synthetic, legend=legend)
    return figure


def _colored(planes: list[np.ndarray], structures: Mapping[str, int]) -> list[np.ndarray]:
    return [colored(labels, structures, OPACITY) for labels in planes]


def _filled(mask: np.ndarray, color: str) -> np.ndarray:
    """An RGBA picture (height, width, 4) of a mask."""
    return np.where(mask[..., None], to_rgba(color, 0.8), 0.0)
