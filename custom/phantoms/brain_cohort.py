# SPDX-License-Identifier: Apache-2.0
"""The cohort of T1-weighted heads with the 28 structures of BRAIN_LABELS."""

from __future__ import annotations

from ..labels import BRAIN_LABELS
from .brain import make_brain_subject
from .cohort import PhantomCohort


class BrainPhantomCohort(PhantomCohort):
    """T1-weighted MRs of heads with skull and scalp: images/, labels/ and dataset.json.

    The arguments are those of `PhantomCohort`.
    """

    VERSION = "1.0"  # raise it with every change of the drawing code that changes voxels

    def __init__(self, root: str, subjects: int = 20, seed: int = 0, workers: int = 2) -> None:
        generator = (make_brain_subject, "brain_t1_phantoms", "MR", self.VERSION, BRAIN_LABELS)
        super().__init__(*generator, root, subjects, seed, workers)
