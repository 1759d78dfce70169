# SPDX-License-Identifier: Apache-2.0
"""Preparation of public data sets: from the unpacked download to a folder that the configs read."""

from .asoca import ASOCA_LABELS, prepare_asoca
from .candi import CANDI_CROP, prepare_candi
from .cases import PreparationReport
from .mmwhs import MMWHS_LABELS, prepare_mmwhs
from .muse import prepare_muse
from .stoic import prepare_stoic
