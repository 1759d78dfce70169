# SPDX-License-Identifier: Apache-2.0
"""Data: lists of volumes, pairs of different subjects, the order in which they are drawn."""

from .datalist import find_volumes, fixed_pairs, group_by_subject, split_volumes
from .pairs import FixedPairDataset, PairDataset
from .pretraining import fingerprint, inference_data, pretraining_data
from .sampler import PairSampler

__all__ = [
    "FixedPairDataset",
    "PairDataset",
    "PairSampler",
    "find_volumes",
    "fingerprint",
    "fixed_pairs",
    "group_by_subject",
    "inference_data",
    "pretraining_data",
    "split_volumes",
]
