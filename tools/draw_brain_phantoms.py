# SPDX-License-Identifier: Apache-2.0
"""A picture of brain phantoms: python -m tools.draw_brain_phantoms --output docs/brain_phantoms.png"""

from __future__ import annotations

from pathlib import Path

import fire
import matplotlib
import nibabel
import numpy as np
from matplotlib.figure import Figure

from custom.figures import save_figure
from custom.labels import BRAIN_LABELS
from custom.phantoms import make_brain_subject
from custom.phantoms.cohort import subject_seed

PLANES = ((2, 4.0), (1, 6.0), (0, 6.0))  # axis, and mm from the middle of the thalami
TISSUE_COLORS = {
    "cerebral_cortex": (0.60, 0.48, 0.45),
    "cerebral_white_matter": (0.92, 0.92, 0.88),
    "cerebellum_cortex": (0.55, 0.45, 0.62),
    "cerebellum_white_matter": (0.85, 0.80, 0.92),
    "cerebrospinal_fluid": (0.12, 0.22, 0.42),
}


def main(output: str = "docs/brain_phantoms.png", subjects: int = 4, seed: int = 0) -> None:
    """Draws the first subjects of a cohort: axial, coronal and sagittal plane, each as image and as label map.

    As radiologists have it: the patient's right is on the left of axial and coronal pictures.
    """
    figure = Figure(figsize=(3 * subjects, 3.3 * 2 * len(PLANES)), layout="constrained")
    axes = figure.subplots(2 * len(PLANES), subjects, squeeze=False)
    colors = label_colors()
    for column in range(subjects):
        image, label, affine = make_brain_subject(subject_seed(seed, column))
        image, label = (nibabel.as_closest_canonical(nibabel.Nifti1Image(part, affine)) for part in (image, label))
        spacing, image, label = image.header.get_zooms(), image.get_fdata(), np.asarray(label.dataobj)
        thalami = np.isin(label, [BRAIN_LABELS["left_thalamus"], BRAIN_LABELS["right_thalamus"]])
        middle = np.argwhere(thalami).mean(axis=0)
        window = {"cmap": "gray", "vmin": 0, "vmax": np.percentile(image, 99.3)}
        for row, (axis, shift) in enumerate(PLANES):
            index = round(middle[axis] + shift / spacing[axis])
            across, up = (size for other, size in enumerate(spacing) if other != axis)
            planes = (volume.take(index, axis=axis).T[::-1, ::-1] for volume in (image, label))
            for part, plane in zip((axes[2 * row, column], axes[2 * row + 1, column]), planes, strict=True):
                colored = colors[plane] if plane.dtype == label.dtype else plane
                part.imshow(colored, aspect=up / across, interpolation="nearest", **window)
                part.set_axis_off()
    save_figure(figure, Path(output))


def label_colors() -> np.ndarray:
    """Colour (RGB, 0 to 1) of every label value; the two sides look alike."""
    colors = np.zeros((max(BRAIN_LABELS.values()) + 1, 3))
    names = dict.fromkeys(name.removeprefix("left_").removeprefix("right_") for name in BRAIN_LABELS)
    nuclei = iter(matplotlib.colormaps["tab20"].colors)
    table = {name: TISSUE_COLORS.get(name) or next(nuclei) for name in names}
    for name, value in BRAIN_LABELS.items():
        colors[value] = table[name.removeprefix("left_").removeprefix("right_")]
    return colors


if __name__ == "__main__":
    fire.Fire(main)
