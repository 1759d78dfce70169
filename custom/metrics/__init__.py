# SPDX-License-Identifier: Apache-2.0
"""Measures of held-out pairs."""

from .features import LabelRecovery, effective_rank
from .registration import RegistrationMeasures, one_hot_dice

__all__ = ["LabelRecovery", "RegistrationMeasures", "effective_rank", "one_hot_dice"]
