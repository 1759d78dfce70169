# SPDX-License-Identifier: Apache-2.0
"""The coronary arteries of the cardiac phantom on a grid that is fine enough for them, cropped like the real data."""

from __future__ import annotations

import numpy as np

from ..labels import CORONARY_LABELS
from .cardiac import draw_cardiac_subject
from .cohort import PhantomCohort

__all__ = ["CoronaryPhantomCohort", "make_coronary_subject"]

SPACING = (1.3, 1.5)  # mm; the arteries are 1.6 to 4.6 mm wide
MARGIN = 15.0  # mm around the arteries


def make_coronary_subject(seed: int, spacing=None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image (int16 HU), coronary arteries (uint8, 1) and affine (4, 4) to millimetre RAS of one subject.

    Left main, anterior descending, circumflex and right coronary artery with side branches: two trees. The volume is
    the box of the arteries and 15 mm around it, as `prepare_data.py asoca` cuts it, within the field of view.

    Args:
        seed: of `draw_cardiac_subject`. spacing: voxel size in mm; drawn from the seed (1.3 to 1.5) where None.
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
    """Contrast CTs of hearts with their coronary arteries, see `make_coronary_subject`.

    Args:
        root, subjects, seed, workers: see PhantomCohort.
    """

    VERSION = "1.0"  # raise it with every change of the drawing that changes voxels

    def __init__(self, root: str, subjects: int = 16, seed: int = 0, workers: int = 2) -> None:
        super().__init__(
            make_subject=make_coronary_subject,
            name="coronary_cta_phantoms",
            modality="CT",
            version=self.VERSION,
            labels=CORONARY_LABELS,
            root=root,
            subjects=subjects,
            seed=seed,
            workers=workers,
        )
