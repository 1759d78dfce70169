# SPDX-License-Identifier: Apache-2.0
"""The NIfTI writer: bytes that depend on the content only, sheared grids on request."""

import gzip

import nibabel
import numpy as np
import pytest

from custom.volumes import write_volume

AFFINE = np.diag([1.5, 2.0, 2.5, 1.0])
SHEARED = AFFINE + np.array([[0, 0.4, 0, 0], [0] * 4, [0] * 4, [0] * 4])
VOLUME = np.random.default_rng(0).integers(-1000, 1000, (20, 24, 28)).astype(np.int16)


def test_a_compressed_volume_is_the_gzip_of_the_volume(tmp_path):
    """Phantoms have had these bytes since version 1.0 of their generators; byte 9, the system, is left to Python."""
    write_volume(tmp_path / "a.nii.gz", VOLUME, AFFINE)
    write_volume(tmp_path / "other_name.nii.gz", VOLUME, AFFINE)
    image = nibabel.Nifti1Image(VOLUME, AFFINE)
    image.header.set_xyzt_units("mm")
    image.set_qform(AFFINE, code=1)
    image.set_sform(AFFINE, code=1)
    expected = bytearray(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))
    expected[9] = 3
    assert (tmp_path / "a.nii.gz").read_bytes() == expected == (tmp_path / "other_name.nii.gz").read_bytes()


def test_a_sheared_grid_is_refused_unless_it_is_allowed(tmp_path):
    with pytest.raises(ValueError, match=r"a\.nii: a sheared voxel grid"):
        write_volume(tmp_path / "a.nii", VOLUME, SHEARED)
    assert not list(tmp_path.iterdir())
    write_volume(tmp_path / "a.nii", VOLUME, SHEARED, allow_shear=True)
    image = nibabel.load(tmp_path / "a.nii")
    np.testing.assert_allclose(image.affine, SHEARED)
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), VOLUME)
