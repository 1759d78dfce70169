# SPDX-License-Identifier: Apache-2.0
"""The coronary arteries of the cardiac phantom, on a fine grid and cropped like the real data."""

from __future__ import annotations

import numpy as np

from ..labels import CORONARY_LABELS
from .cardiac import draw_cardiac_subject
from .cohort import PhantomCohort

SPACING = (1.3, 1.5)  # mm; the arteries are 1.6 to 4.6 mm wide
MARGIN = 15.0  # mm around the arteries


def make_coronary_subject(seed: int, spacing=None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one subject with its left and right coronary arteries and their side branches.

    The volume is the bounding box of the arteries with a margin of 15 mm, cut to the field of view. `python -m
    tools.prepare_data asoca` crops real data in the same way.

    Args:
        seed: seed of `draw_cardiac_subject`.
        spacing: voxel size in mm along x, y, z; None draws it from the seed (1.3 to 1.5 mm).

    Returns:
        the image (int16 HU), the label map of the arteries (uint8, 1) and the affine matrix (4, 4) from voxel indices
        to RAS millimetres.
    """
    if spacing is None:
        spacing = np.random.default_rng([seed, 1]).uniform(*SPACING, size=3)
    subject = draw_cardiac_subject(seed, spacing)
    margin = np.ceil(MARGIN / np.linalg.norm(subject.affine[:3, :3], axis=0)).astype(int)
    inside = np.argwhere(subject.coronary)
    start = np.maximum(inside.min(axis=0) - margin, 0)
    stop = np.minimum(inside.max(axis=0) + margin + 1, subject.coronary.shape)
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    affine = subject.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ start
    return np.ascontiguousarray(subject.image[box]), subject.coronary[box].astype(np.uint8), affine


class CoronaryPhantomCohort(PhantomCohort):
    """Contrast CTs of hearts with labelled coronary arteries, see `make_coronary_subject`.

    The arguments are those of `PhantomCohort`.
    """

    VERSION = "1.0"  # raise it with every change of the drawing code that changes voxels

    def __init__(self, root: str, subjects: int = 16, seed: int = 0, workers: int = 2) -> None:
        generator = (make_coronary_subject, "coronary_cta_phantoms", "CT", self.VERSION, CORONARY_LABELS)
        super().__init__(*generator, root, subjects, seed, workers)
