# SPDX-License-Identifier: Apache-2.0
"""Losses of registration, and of segmentation with partial labels."""

from .contrast import MatchedContrastLoss, matched_contrast
from .local_ncc import AuthorsNCCLoss, LocalNCCLoss, authors_ncc_loss, box_filter, local_ncc_loss
from .marginal import MarginalLoss, marginal_logits
from .smoothness import SmoothnessLoss, smoothness_loss
