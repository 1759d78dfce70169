# SPDX-License-Identifier: Apache-2.0
"""A picture of chest phantoms: python -m tools.draw_chest_phantoms --output docs/chest_phantoms.png"""

from __future__ import annotations

from pathlib import Path

import fire
import nibabel
import numpy as np
from matplotlib.figure import Figure

from custom.figures import save_figure
from custom.phantoms import make_chest_subject
from custom.phantoms.chest import severity
from custom.phantoms.cohort import subject_seed

WINDOW = {"cmap": "gray", "vmin": -1100, "vmax": 200}  # HU: lung window
PLANES = ((2, 0.55), (2, 0.3), (1, 0.35), (0, 0.75))  # axis and place in the box of the lungs


def main(output: str = "docs/chest_phantoms.png", subjects: int = 6, seed: int = 0) -> None:
    """Draws the first subjects of a cohort, by turns healthy and ill: two axial planes, a coronal, a sagittal one."""
    figure = Figure(figsize=(3 * subjects, 11), layout="constrained")
    axes = figure.subplots(len(PLANES), subjects, squeeze=False)
    for column in range(subjects):
        subject, ill = subject_seed(seed, column), bool(column % 2)
        image, mask, affine = make_chest_subject(subject, ill)
        image, mask = (nibabel.as_closest_canonical(nibabel.Nifti1Image(part, affine)) for part in (image, mask))
        spacing, image, inside = image.header.get_zooms(), image.get_fdata(), np.argwhere(mask.get_fdata() > 0)
        low, high = inside.min(axis=0), inside.max(axis=0)
        for row, (axis, place) in enumerate(PLANES):
            index = round(low[axis] + place * (high[axis] - low[axis]))
            across, up = (size for other, size in enumerate(spacing) if other != axis)
            axes[row, column].imshow(image.take(index, axis=axis).T[::-1, ::-1], aspect=up / across, **WINDOW)
            axes[row, column].set_axis_off()
        state = f"opacities, severity {severity(subject):.2f}" if ill else "healthy"
        axes[0, column].set_title(state)
    save_figure(figure, Path(output))


if __name__ == "__main__":
    fire.Fire(main)
