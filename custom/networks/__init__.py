# SPDX-License-Identifier: Apache-2.0
"""Backbone and heads."""

from .heads import AffineHead, DeformableHead, RestorationHead
from .unet import UNet3D
from .z_matching import ZMatchingHead

__all__ = ["AffineHead", "DeformableHead", "RestorationHead", "UNet3D", "ZMatchingHead"]
