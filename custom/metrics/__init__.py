# SPDX-License-Identifier: Apache-2.0
"""Measures of registered pairs, segmentations, classifications and features."""

from .centre_line import CentreLineDice, centre_line_dice
from .classification import bootstrap_auc, rates, roc_auc, roc_curve
from .features import LabelRecovery, effective_rank
from .registration import RegistrationMeasures, one_hot_dice
from .segmentation import segmentation_measures
