# SPDX-License-Identifier: Apache-2.0
"""Registration of two files: reading the pair, writing the warped image and the displacement field."""

from .files import RegistrationFiles, label_dice
from .pair import CommonSized, RegistrationPair
from .vector_nifti import read_displacement_field, write_displacement_field
from .world import pull_image, resample_displacement, world_displacement
