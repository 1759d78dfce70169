# SPDX-License-Identifier: Apache-2.0
"""The cohort of cardiac CT angiograms."""

from __future__ import annotations

from ..labels import CARDIAC_LABELS
from .cardiac import make_cardiac_subject
from .cohort import PhantomCohort


class CardiacPhantomCohort(PhantomCohort):
    """Cardiac CT angiograms: chest CTs with contrast agent and the seven structures of MM-WHS.

    The arguments are those of `PhantomCohort`.
    """

    VERSION = "1.0"  # raise it with every change of the drawing code that changes voxels

    def __init__(self, root: str, subjects: int = 24, seed: int = 0, workers: int = 2) -> None:
        generator = (make_cardiac_subject, "cardiac_cta_phantoms", "CT", self.VERSION, CARDIAC_LABELS)
        super().__init__(*generator, root, subjects, seed, workers)
