# SPDX-License-Identifier: Apache-2.0
"""The backbone, the heads of GVSL, and the networks of downstream tasks."""

from .adapted import AdaptedBackbone
from .device import on_device
from .downstream import ClassificationNetwork, SegmentationNetwork
from .heads import AffineHead, DeformableHead, RestorationHead
from .keypoints import KeypointAffineHead
from .nnunet import ResidualEncoderBackbone
from .similarity import SimilarityHead
from .unet import UNet3D
from .z_matching import ZMatchingHead
