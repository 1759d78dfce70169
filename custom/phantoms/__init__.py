# SPDX-License-Identifier: Apache-2.0
"""Synthetic subjects that stand in for patients: one anatomy; shape, pose, contrast and noise differ."""

from .cardiac import CARDIAC_LABELS, CardiacSubject, draw_cardiac_subject, make_cardiac_subject
from .cohort import CardiacPhantomCohort, PhantomCohort

__all__ = [
    "CARDIAC_LABELS",
    "CardiacPhantomCohort",
    "CardiacSubject",
    "PhantomCohort",
    "draw_cardiac_subject",
    "make_cardiac_subject",
]
