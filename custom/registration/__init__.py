# SPDX-License-Identifier: Apache-2.0
"""Registration of two files: reading the pair, refining its displacement, writing the results."""

from .affine_refinement import refine_affine
from .atlases import AtlasPairs
from .files import RegistrationFiles, file_grid, label_dice, millimetre_field, read_label
from .pair import CommonSized, RegistrationPair
from .refine import RefineDisplacement, refine_displacement
from .vector_nifti import read_displacement_field, write_displacement_field
from .votes import Vote, elect
from .world import pull_image, resample_displacement, world_displacement
