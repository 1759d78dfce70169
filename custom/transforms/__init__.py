# SPDX-License-Identifier: Apache-2.0
"""Transforms: reading and cropping volumes, damage to their appearance, spatial transforms of pairs."""

from .bezier_intensity import RandBezierIntensity, RandBezierIntensityd
from .crop import RandRelativeCropd
from .in_painting import RandInPainting, RandInPaintingd
from .local_shuffle import RandLocalShuffle, RandLocalShuffled
from .spatial import RandSpatialTransform
from .volume import LoadVolumed, VolumeError, check_volume, load_volume

__all__ = [
    "LoadVolumed",
    "RandBezierIntensity",
    "RandBezierIntensityd",
    "RandInPainting",
    "RandInPaintingd",
    "RandLocalShuffle",
    "RandLocalShuffled",
    "RandRelativeCropd",
    "RandSpatialTransform",
    "VolumeError",
    "check_volume",
    "load_volume",
]
