# SPDX-License-Identifier: Apache-2.0
"""Losses."""

from .class_weights import class_weights
from .gvsl import GVSLLoss
from .local_ncc import LocalNCCLoss, authors_ncc_loss, box_filter, local_ncc_loss
from .restoration import RestorationLoss
from .smoothness import SmoothnessLoss, smoothness_loss

__all__ = [
    "GVSLLoss",
    "LocalNCCLoss",
    "RestorationLoss",
    "SmoothnessLoss",
    "authors_ncc_loss",
    "box_filter",
    "class_weights",
    "local_ncc_loss",
    "smoothness_loss",
]
