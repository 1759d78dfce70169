# SPDX-License-Identifier: Apache-2.0
"""Reading, checking and writing 3D volumes."""

from .parts import files_of, volume_state
from .read import VOLUME_SUFFIXES, VolumeError, check_same_grid, check_volume, is_dicom_file, load_volume
from .write import check_geometry, write_volume
