# SPDX-License-Identifier: Apache-2.0
"""Backbone and heads, and the networks of downstream tasks."""

from .adapted import AdaptedBackbone
from .downstream import ClassificationNetwork, SegmentationNetwork
from .heads import AffineHead, DeformableHead, RestorationHead
from .keypoints import KeypointAffineHead
from .pairs import RestorationNetwork, features_of_pairs
from .projection import ProjectionMLP, projection_spread, rows_of_all_processes, rows_of_views
from .unet import UNet3D
from .z_matching import ZMatchingHead

__all__ = [
    "AdaptedBackbone",
    "AffineHead",
    "ClassificationNetwork",
    "DeformableHead",
    "KeypointAffineHead",
    "ProjectionMLP",
    "RestorationHead",
    "RestorationNetwork",
    "SegmentationNetwork",
    "UNet3D",
    "ZMatchingHead",
    "features_of_pairs",
    "projection_spread",
    "rows_of_all_processes",
    "rows_of_views",
]
