# SPDX-License-Identifier: Apache-2.0
"""Transforms of volumes: loading, cropping, label maps, damage to the intensities, random spatial transforms."""

from .argmax_on_file_grid import ArgmaxOnFileGridd, argmax_on_grid
from .bezier_intensity import RandBezierIntensity, RandBezierIntensityd
from .class_label import EncodeClassd
from .crop import RandRelativeCropd
from .in_painting import RandInPainting, RandInPaintingd
from .intensity import CheckedIntensityd, looks_like_hu
from .labels import DecodeLabelsd, EncodeAbsentd, EncodeLabelsd, SameGridd
from .load import CheckedLoadImaged
from .local_shuffle import RandLocalShuffle, RandLocalShuffled
from .lungs import LungMaskd, lung_mask
from .out_painting import RandOutPainting, RandOutPaintingd
from .spacing import ToSpacingd
from .spatial import RandSpatialTransform
from .views import two_views
