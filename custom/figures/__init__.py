# SPDX-License-Identifier: Apache-2.0
"""Drawing: arrays in, matplotlib figures out."""

from .classification import OrganPlanes, organ_planes, planes_figure, roc_figure
from .colors import colored, in_words, legend_patches, structure_colors, without_side
from .losses import loss_figure, read_table
from .planes import (
    ORIENTATION,
    PLANES,
    ROWS,
    SYNTHETIC,
    draw_outlines,
    draw_plane,
    extent,
    fullest_plane,
    middle_plane,
    name_figure,
    pixel_size,
    plane,
    save_figure,
)
from .registration import RegisteredPair, registration_figure, registration_in_words
from .segmentation import Planes, comparison_figure, middle_planes, segmentation_figure
from .window import UNITLESS, GrayScale, gray_scale
