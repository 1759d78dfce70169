# SPDX-License-Identifier: Apache-2.0
"""Phantoms: synthetic subjects of one anatomy, which differ in shape, pose, contrast and noise."""

from ..labels import CARDIAC_LABELS, CORONARY_LABELS
from .brain import make_brain_subject
from .brain_cohort import BrainPhantomCohort
from .cardiac import CardiacSubject, draw_cardiac_subject, make_cardiac_subject
from .cardiac_cohort import CardiacPhantomCohort
from .chest import ChestSubject, make_chest_subject
from .chest_cohort import ChestPhantomCohort
from .cohort import PhantomCohort
from .coronary import CoronaryPhantomCohort, make_coronary_subject
