# SPDX-License-Identifier: Apache-2.0
"""A picture of phantom subjects: python -m tools.draw_phantoms --output docs/phantoms.png"""

from __future__ import annotations

from pathlib import Path

import fire
import matplotlib
import nibabel
import numpy as np
from matplotlib.figure import Figure

from custom.figures import save_figure
from custom.phantoms import CARDIAC_LABELS, make_cardiac_subject
from custom.phantoms.cohort import subject_seed

WINDOW = {"cmap": "gray", "vmin": -200, "vmax": 500}  # HU: soft tissue and contrast, as for a CTA


def ras_subject(seed: int, number: int) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Image and label of a subject of a cohort, in RAS order, and the voxel size in millimetres."""
    image, label, affine = make_cardiac_subject(subject_seed(seed, number))
    volumes = [nibabel.as_closest_canonical(nibabel.Nifti1Image(array, affine)) for array in (image, label)]
    return volumes[0].get_fdata(), volumes[1].get_fdata(), volumes[0].header.get_zooms()


def planes(image: np.ndarray, label: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """Axial, coronal and sagittal plane through the middle of the left ventricle, as radiologists look at them."""
    centre = [int(round(index)) for index in np.argwhere(label == CARDIAC_LABELS["left_ventricle"]).mean(axis=0)]
    drawn = []
    for axis in (2, 1, 0):
        drawn.append(tuple(volume.take(centre[axis], axis=axis).T[::-1, ::-1] for volume in (image, label)) + (axis,))
    return drawn


def main(output: str = "docs/phantoms.png", subjects: int = 4, seed: int = 0) -> None:
    """Draws the first subjects of a cohort: three planes, and the axial one with the seven structures in colour."""
    figure = Figure(figsize=(3 * subjects, 10.5), layout="constrained")
    axes = figure.subplots(4, subjects, squeeze=False)
    colours = matplotlib.colormaps["Set1"]
    values = list(CARDIAC_LABELS.values())
    for column in range(subjects):
        image, label, spacing = ras_subject(seed, column)
        drawn = planes(image, label)
        for row, (plane, plane_label, axis) in enumerate([drawn[0], *drawn]):
            across, up = (size for other, size in enumerate(spacing) if other != axis)
            axes[row, column].imshow(plane, aspect=up / across, **WINDOW)
            if row == 0:
                index = np.full(plane_label.shape, np.nan)
                for place, value in enumerate(values):
                    index[plane_label == value] = place
                axes[row, column].imshow(colours(index.astype(float) / 8) * ~np.isnan(index)[..., None], alpha=0.55)
            axes[row, column].set_axis_off()
    save_figure(figure, Path(output))


if __name__ == "__main__":
    fire.Fire(main)
