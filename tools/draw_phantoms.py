# SPDX-License-Identifier: Apache-2.0
"""A picture of phantoms: python -m tools.draw_phantoms --kind cardiac|chest|brain --output FILE.png"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import nibabel
import numpy as np
from matplotlib.figure import Figure

from custom.figures import save_figure
from custom.labels import BRAIN_LABELS, CARDIAC_LABELS
from custom.phantoms import make_brain_subject, make_cardiac_subject, make_chest_subject
from custom.phantoms.chest import severity
from custom.phantoms.cohort import subject_seed
from custom.running import run_tool

VESSEL_WINDOW = {"cmap": "gray", "vmin": -200, "vmax": 500}  # HU
LUNG_WINDOW = {"cmap": "gray", "vmin": -1100, "vmax": 200}  # HU
LUNG_PLANES = ((2, 0.55), (2, 0.3), (1, 0.35), (0, 0.75))  # axis, and position in the box around the lungs, 0 to 1
BRAIN_PLANES = ((2, 4.0), (1, 6.0), (0, 6.0))  # axis, and mm from the middle of the thalami
TISSUE_COLORS = {
    "cerebral_cortex": (0.60, 0.48, 0.45),
    "cerebral_white_matter": (0.92, 0.92, 0.88),
    "cerebellum_cortex": (0.55, 0.45, 0.62),
    "cerebellum_white_matter": (0.85, 0.80, 0.92),
    "cerebrospinal_fluid": (0.12, 0.22, 0.42),
}
HEIGHTS = {"cardiac": 10.5, "chest": 11.0, "brain": 19.8}  # inches of a figure


class Subject(NamedTuple):
    """A phantom in RAS order.

    image: intensities (*spatial).
    label: structures, or the mask of the lungs (*spatial).
    spacing: voxel size in millimetres, of each axis.
    """

    image: np.ndarray
    label: np.ndarray
    spacing: tuple[float, ...]


Layers = list[tuple[np.ndarray, dict[str, Any]]]  # pictures on top of each other, each with its arguments of imshow


def main(output: str, kind: str = "cardiac", subjects: int = 4, seed: int = 0) -> None:
    """Draws the first subjects of a cohort in a column each; chests are healthy and ill by turns.

    Args:
        output: the PNG.
        kind: cardiac, chest or brain.
        subjects: number of columns.
        seed: of the cohort.
    """
    if kind not in HEIGHTS:
        raise ValueError(f"--kind is {kind!r}, expected one of {sorted(HEIGHTS)}")
    if subjects < 1:
        raise ValueError(f"subjects is {subjects}, expected at least 1")
    rows = {"cardiac": cardiac_rows, "chest": chest_rows, "brain": brain_rows}[kind]
    columns = [list(rows(make_subject(kind, seed, number))) for number in range(subjects)]
    figure = Figure(figsize=(3 * subjects, HEIGHTS[kind]), layout="constrained")
    axes = figure.subplots(len(columns[0]), subjects, squeeze=False)
    for number, column in enumerate(columns):
        for plot, (aspect, layers) in zip(axes[:, number], column, strict=True):
            for picture, style in layers:
                plot.imshow(picture, aspect=aspect, **style)
            plot.set_axis_off()
        if kind == "chest":
            state = f"opacities, severity {severity(subject_seed(seed, number)):.2f}" if number % 2 else "healthy"
            axes[0, number].set_title(state)
    save_figure(figure, Path(output))


def make_subject(kind: str, seed: int, number: int) -> Subject:
    """A subject of a cohort."""
    chest = partial(make_chest_subject, diseased=bool(number % 2))
    make = {"cardiac": make_cardiac_subject, "chest": chest, "brain": make_brain_subject}[kind]
    image, label, affine = make(subject_seed(seed, number))
    image, label = (nibabel.as_closest_canonical(nibabel.Nifti1Image(volume, affine)) for volume in (image, label))
    return Subject(image.get_fdata(), np.asarray(label.dataobj), image.header.get_zooms())


def cardiac_rows(subject: Subject) -> Iterator[tuple[float, Layers]]:
    """Aspect and layers of each row: axial plane with the seven structures; axial, coronal and sagittal plane."""
    colors = color_table(CARDIAC_LABELS, [(*color, 1.0) for color in matplotlib.colormaps["Set1"].colors])
    middle = np.argwhere(subject.label == CARDIAC_LABELS["left_ventricle"]).mean(axis=0)
    for row, axis in enumerate((2, 2, 1, 0)):
        aspect, image, label = plane(subject, axis, round(middle[axis]))
        structures = [(colors[label], {"alpha": 0.55})] if row == 0 else []
        yield aspect, [(image, VESSEL_WINDOW), *structures]


def chest_rows(subject: Subject) -> Iterator[tuple[float, Layers]]:
    """Aspect and layers of each row: two axial planes, a coronal and a sagittal one."""
    inside = np.argwhere(subject.label > 0)
    low, high = inside.min(axis=0), inside.max(axis=0)
    for axis, position in LUNG_PLANES:
        aspect, image, _ = plane(subject, axis, round(low[axis] + position * (high[axis] - low[axis])))
        yield aspect, [(image, LUNG_WINDOW)]


def brain_rows(subject: Subject) -> Iterator[tuple[float, Layers]]:
    """Aspect and layers of each row: axial, coronal and sagittal plane, each as image and as label map."""
    names = dict.fromkeys(map(without_side, BRAIN_LABELS))
    nuclei = iter(matplotlib.colormaps["tab20"].colors)
    tissues = {name: TISSUE_COLORS.get(name) or next(nuclei) for name in names}
    colors = color_table(BRAIN_LABELS, [tissues[without_side(name)] for name in BRAIN_LABELS])
    thalami = np.isin(subject.label, [BRAIN_LABELS["left_thalamus"], BRAIN_LABELS["right_thalamus"]])
    middle = np.argwhere(thalami).mean(axis=0)
    window = {"cmap": "gray", "vmin": 0, "vmax": np.percentile(subject.image, 99.3), "interpolation": "nearest"}
    for axis, distance in BRAIN_PLANES:
        aspect, image, label = plane(subject, axis, round(middle[axis] + distance / subject.spacing[axis]))
        yield aspect, [(image, window)]
        yield aspect, [(colors[label], {"interpolation": "nearest"})]


def plane(subject: Subject, axis: int, index: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Height of a pixel by its width, image and label of a plane; the patient's right is on the left."""
    across, up = (size for other, size in enumerate(subject.spacing) if other != axis)
    image, label = (volume.take(index, axis=axis).T[::-1, ::-1] for volume in (subject.image, subject.label))
    return up / across, image, label


def color_table(labels: Mapping[str, int], colors: Sequence[tuple[float, ...]]) -> np.ndarray:
    """(largest value + 1, channels): the color of every label value, in the order of the labels; 0 for others."""
    table = np.zeros((max(labels.values()) + 1, len(colors[0])))
    for value, color in zip(labels.values(), colors, strict=False):
        table[value] = color
    return table


def without_side(name: str) -> str:
    """Name of a structure, the same for left and right."""
    return name.removeprefix("left_").removeprefix("right_")


if __name__ == "__main__":
    run_tool(main)
