# SPDX-License-Identifier: Apache-2.0
"""The T1-weighted brain cohort: heads with the 28 structures of BRAIN_LABELS."""

from __future__ import annotations

from ..labels import BRAIN_LABELS
from .brain import make_brain_subject
from .cohort import PhantomCohort

__all__ = ["BrainPhantomCohort"]


class BrainPhantomCohort(PhantomCohort):
    """T1-weighted MRs of heads, skull and scalp included: images/, labels/ and dataset.json.

    Args:
        root, subjects, seed, workers: see PhantomCohort.
    """

    VERSION = "1.0"  # raise it with every change of the drawing that changes voxels

    def __init__(self, root: str, subjects: int = 20, seed: int = 0, workers: int = 2) -> None:
        super().__init__(
            make_subject=make_brain_subject,
            name="brain_t1_phantoms",
            modality="MR",
            version=self.VERSION,
            labels=BRAIN_LABELS,
            root=root,
            subjects=subjects,
            seed=seed,
            workers=workers,
        )
