# SPDX-License-Identifier: Apache-2.0
"""A picture of phantoms: python -m tools.draw_phantoms --kind cardiac|chest|brain --output FILE.png"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from custom.figures import (
    ORIENTATION,
    UNITLESS,
    GrayScale,
    colored,
    draw_plane,
    extent,
    legend_patches,
    name_figure,
    pixel_size,
    plane,
)
from custom.labels import BRAIN_LABELS, CARDIAC_LABELS
from custom.phantoms import make_brain_subject, make_cardiac_subject, make_chest_subject
from custom.phantoms.chest import severity
from custom.phantoms.cohort import subject_seed
from custom.running import run_tool

from .small_picture import save_small

WINDOWS = {"cardiac": GrayScale((200, 800)), "chest": GrayScale((-600, 1500)), "brain": UNITLESS}
LUNG_PLANES = ((2, 0.55), (2, 0.3), (1, 0.35), (0, 0.75))  # axis, and position in the box around the lungs, 0 to 1
BRAIN_PLANES = ((2, 4.0), (1, 6.0), (0, 6.0))  # axis, and mm from the middle of the thalami
STRUCTURES = {"cardiac": CARDIAC_LABELS, "chest": {}, "brain": BRAIN_LABELS}
COLUMN, MARGIN = 3.0, 2.2  # inches: width of a column, height of title and legend


class Subject(NamedTuple):
    """A phantom in RAS order.

    image: intensities (*spatial).
    label: structures, or the mask of the lungs (*spatial).
    spacing: voxel size in millimetres, of each axis.
    """

    image: np.ndarray
    label: np.ndarray
    spacing: tuple[float, ...]


class Row(NamedTuple):
    """A slice of a subject.

    axis: across the slice.
    index: along the axis.
    opacity: of the structures on the image.
    """

    axis: int
    index: int
    opacity: float = 0.0


def main(output: str, kind: str = "cardiac", subjects: int = 4, seed: int = 0) -> None:
    """Draws the first subjects of a cohort in a column each; chests are healthy and ill by turns.

    Args:
        output: the PNG.
        kind: cardiac, chest or brain.
        subjects: number of columns.
        seed: of the cohort.
    """
    if kind not in WINDOWS:
        raise ValueError(f"--kind is {kind!r}, expected one of {sorted(WINDOWS)}")
    if subjects < 1:
        raise ValueError(f"subjects is {subjects}, expected at least 1")
    rows_of = {"cardiac": cardiac_rows, "chest": chest_rows, "brain": brain_rows}[kind]
    made = [make_subject(kind, seed, number) for number in range(subjects)]
    columns = [list(rows_of(subject)) for subject in made]
    ratios = [max(height / width for height, width in map(extent_of, made, row)) for row in zip(*columns, strict=True)]
    size = (max(COLUMN * subjects, 7.5), COLUMN * sum(ratios) + MARGIN)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(ratios), subjects, squeeze=False, height_ratios=ratios)
    for number, (subject, column) in enumerate(zip(made, columns, strict=True)):
        for plot, row in zip(axes[:, number], column, strict=True):
            draw_row(plot, subject, row, kind)
        if kind == "chest":
            state = f"opacities, severity {severity(subject_seed(seed, number)):.2f}" if number % 2 else "healthy"
            axes[0, number].set_title(state, fontsize="medium")
    legend = legend_patches(list(STRUCTURES[kind]))
    notes = (ORIENTATION, WINDOWS[kind].caption)
    name_figure(figure, f"{subjects} subjects of the {kind} cohort", notes, synthetic=True, legend=legend)
    save_small(figure, Path(output))


def extent_of(subject: Subject, row: Row) -> tuple[float, float]:
    """Height and width of a slice in millimetres."""
    return extent(plane(subject.image, row.axis, row.index), pixel_size(subject.spacing, row.axis))


def draw_row(plot: Axes, subject: Subject, row: Row, kind: str) -> None:
    """Draws a slice of a subject, with its structures if the row shows them."""
    gray_scale, size = WINDOWS[kind], pixel_size(subject.spacing, row.axis)
    image = gray_scale.values(subject.image)
    low, high = gray_scale.limits(image)
    pixels, labels = (plane(volume, row.axis, row.index) for volume in (image, subject.label))
    draw_plane(plot, pixels, row.axis, size, bar=True, cmap="gray", vmin=low, vmax=high)
    if row.opacity:
        plot.imshow(colored(labels, STRUCTURES[kind], row.opacity), aspect=size[0] / size[1], interpolation="nearest")


def make_subject(kind: str, seed: int, number: int) -> Subject:
    """A subject of a cohort."""
    chest = partial(make_chest_subject, diseased=bool(number % 2))
    make = {"cardiac": make_cardiac_subject, "chest": chest, "brain": make_brain_subject}[kind]
    image, label, affine = make(subject_seed(seed, number))
    image, label = (nibabel.as_closest_canonical(nibabel.Nifti1Image(volume, affine)) for volume in (image, label))
    return Subject(image.get_fdata(), np.asarray(label.dataobj), image.header.get_zooms())


def cardiac_rows(subject: Subject) -> Iterator[Row]:
    """Axial plane with the seven structures; axial, coronal and sagittal plane."""
    middle = np.argwhere(subject.label == CARDIAC_LABELS["left_ventricle"]).mean(axis=0)
    for opacity, axis in ((0.5, 2), (0.0, 2), (0.0, 1), (0.0, 0)):
        yield Row(axis, round(middle[axis]), opacity)


def chest_rows(subject: Subject) -> Iterator[Row]:
    """Two axial planes, a coronal and a sagittal one."""
    inside = np.argwhere(subject.label > 0)
    low, high = inside.min(axis=0), inside.max(axis=0)
    for axis, position in LUNG_PLANES:
        yield Row(axis, round(low[axis] + position * (high[axis] - low[axis])))


def brain_rows(subject: Subject) -> Iterator[Row]:
    """Axial, coronal and sagittal plane, each as image and with its structures."""
    thalami = np.isin(subject.label, [BRAIN_LABELS["left_thalamus"], BRAIN_LABELS["right_thalamus"]])
    middle = np.argwhere(thalami).mean(axis=0)
    for axis, distance in BRAIN_PLANES:
        index = round(middle[axis] + distance / subject.spacing[axis])
        yield from (Row(axis, index), Row(axis, index, opacity=1.0))


if __name__ == "__main__":
    run_tool(main)
