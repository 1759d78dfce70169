# SPDX-License-Identifier: Apache-2.0
"""The file of a volume, and its values without metadata."""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor

from custom.volumes import file_name, without_metadata


def test_a_volume_names_its_file_and_other_values_what_they_are_told_to():
    assert file_name(MetaTensor(torch.zeros(1), meta={"filename_or_obj": "ct.nii.gz"})) == "ct.nii.gz"
    assert file_name(MetaTensor(torch.zeros(1))) == file_name(torch.zeros(1)) == file_name(None) == "no file name"
    assert file_name(np.zeros(1), "key 'label'") == "key 'label'"


def test_values_without_metadata_are_plain_and_the_same_memory():
    volume = MetaTensor(torch.zeros(2), meta={"filename_or_obj": "ct.nii.gz"})
    plain = without_metadata(volume)
    assert type(plain) is torch.Tensor and plain.data_ptr() == volume.data_ptr()
    other = np.zeros(2)
    assert without_metadata(other) is other
