# SPDX-License-Identifier: Apache-2.0
"""Drawing: arrays in, matplotlib figures out."""

from .classification import planes_figure, roc_figure
from .losses import loss_figure, read_table
from .planes import PLANES, fullest_plane, middle_plane, save_figure
from .registration import registration_figure
from .segmentation import Planes, middle_planes, segmentation_figure, structure_colors
