# SPDX-License-Identifier: Apache-2.0
"""Data: lists of volumes, pairs of different subjects, labelled samples, the order in which they are drawn."""

from .cache import VolumeCache
from .cases import CaseLoader
from .class_balance import class_weights
from .datalist import find_parts, find_volumes, fixed_pairs, group_by_subject, split_volumes
from .label_names import label_values, labels_of
from .labelled import labelled_data
from .listing import read_lists
from .pairs import FixedPairDataset, PairDataset
from .pretraining import fingerprint, inference_data, pretraining_data
from .sampler import GlobalSampler
from .samples import SampleDataset
from .seen_volumes import seen_in_training, write_seen
