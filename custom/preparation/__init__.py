# SPDX-License-Identifier: Apache-2.0
"""Public data sets as they are unpacked -> folders that the configs read."""

from .cases import PreparationReport
from .mmwhs import MMWHS_LABELS, prepare_mmwhs
from .stoic import prepare_stoic

__all__ = ["MMWHS_LABELS", "PreparationReport", "prepare_mmwhs", "prepare_stoic"]
