# SPDX-License-Identifier: Apache-2.0
"""Reading, checking and writing 3D volumes."""

from .channels import Image, check_image, image_name, is_image, load_image, paths_of
from .dicom import VOLUME_SUFFIXES, is_dicom_file, patient_id
from .geometry import VolumeError, warn_once
from .grid import check_same_grid, on_grid_of
from .metadata import file_name, without_metadata
from .parts import files_of, volume_state
from .read import check_file, check_volume, load_volume, whole_numbers
from .write import check_geometry, nifti_image, write_volume
