# SPDX-License-Identifier: Apache-2.0
"""Losses of registration: local normalised cross-correlation and smoothness."""

from .local_ncc import AuthorsNCCLoss, LocalNCCLoss, authors_ncc_loss, box_filter, local_ncc_loss
from .smoothness import SmoothnessLoss, smoothness_loss
