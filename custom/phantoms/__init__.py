# SPDX-License-Identifier: Apache-2.0
"""Synthetic subjects that stand in for patients: one anatomy; shape, pose, contrast and noise differ."""

from .cardiac import CARDIAC_LABELS, CardiacSubject, draw_cardiac_subject, make_cardiac_subject
from .chest import ChestSubject, make_chest_subject
from .chest_cohort import ChestPhantomCohort
from .cohort import CardiacPhantomCohort, PhantomCohort

__all__ = [
    "CARDIAC_LABELS",
    "CardiacPhantomCohort",
    "CardiacSubject",
    "ChestPhantomCohort",
    "ChestSubject",
    "PhantomCohort",
    "draw_cardiac_subject",
    "make_cardiac_subject",
    "make_chest_subject",
]
