# SPDX-License-Identifier: Apache-2.0
"""Geometry: affine matrices, displacement fields, the warping layer, the conventions that join them; a convolution."""

from .affine import affine_to_displacement, compose_affine, linear_matrix, rotation_matrix, shear_matrix, voxel_affine
from .authors import authors_affine_matrix, authors_affine_warp, authors_displacement, authors_flow_warp
from .constants import constant, to_device
from .conventions import AuthorsConventions, PhysicalConventions
from .convolution import Conv3d
from .displacement import folded_share, fuse, fuse_equation_12, jacobian_determinant
from .layout import with_gradient_in_own_layout
from .precision import at_least_float32, in_float32
from .warping import warp
