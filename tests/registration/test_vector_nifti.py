# SPDX-License-Identifier: Apache-2.0
"""The files: read back by nibabel and by ITK."""

from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest
from oblique import make_affine

from custom.registration import read_displacement_field, write_displacement_field
from custom.volumes import check_geometry, write_volume

SHAPE = (5, 6, 7)


@pytest.fixture(params=[(1, 1, 1), (-1, 1, 1), (-1, -1, 1)])
def affine(request):
    return make_affine(SHAPE, (0.9, 1.3, 2.5), (12, -20, 25), (30, -40, 60), flips=request.param)


@pytest.fixture
def field():
    return np.random.default_rng(0).normal(0, 5, (3, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_field_comes_back(tmp_path, affine, field, suffix):
    path = tmp_path / f"field{suffix}"
    write_displacement_field(path, field, affine)
    found, found_affine = read_displacement_field(path)
    np.testing.assert_array_equal(found, field)
    np.testing.assert_allclose(found_affine, affine, atol=1e-5)


def test_header_is_that_of_a_vector_image(tmp_path, affine, field):
    write_displacement_field(tmp_path / "field.nii.gz", field, affine)
    header = nibabel.load(tmp_path / "field.nii.gz").header
    assert header["intent_code"] == 1007 and header.get_data_shape() == (*SHAPE, 1, 3)
    assert header.get_data_dtype() == np.float32 and header.get_xyzt_units()[0] == "mm"
    for matrix, code in (header.get_sform(coded=True), header.get_qform(coded=True)):
        assert code == 1
        np.testing.assert_allclose(matrix, affine, atol=1e-5)


def test_itk_reads_vectors_and_grid_in_lps(tmp_path, affine, field):
    write_displacement_field(tmp_path / "field.nii.gz", field, affine)
    image = itk.imread(str(tmp_path / "field.nii.gz"), itk.Vector[itk.F, 3])
    vectors = itk.array_from_image(image)  # k, j, i, channel
    lps = np.array([-1, -1, 1])
    for index in [(0, 0, 0), (4, 5, 6), (1, 3, 2)]:
        np.testing.assert_array_equal(vectors[index[::-1]], field[(slice(None), *index)] * lps)
        point = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(list(point), (affine @ [*index, 1])[:3] * lps, atol=1e-4)


def test_volume_comes_back_in_its_type(tmp_path, affine):
    for dtype in (np.float32, np.int16, np.int32):
        volume = np.random.default_rng(1).normal(0, 900, SHAPE).astype(dtype)
        write_volume(tmp_path / "volume.nii.gz", volume, affine)
        image = nibabel.load(tmp_path / "volume.nii.gz")
        assert image.get_data_dtype() == dtype
        np.testing.assert_array_equal(np.asanyarray(image.dataobj), volume)
        np.testing.assert_allclose(image.affine, affine, atol=1e-5)


@pytest.mark.parametrize("name", ["field.nii", "field.nii.gz"])
def test_a_file_is_whole_or_not_there(tmp_path, affine, field, monkeypatch, name):
    write_displacement_field(tmp_path / name, field, affine)
    whole = (tmp_path / name).read_bytes()

    def cut_off(image, path):
        Path(path).write_bytes(whole[:50])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(nibabel, "save", cut_off)
        for path in (tmp_path / name, tmp_path / f"new_{name}"):
            with pytest.raises(KeyboardInterrupt):
                write_displacement_field(path, -field, affine)
    assert (tmp_path / name).read_bytes() == whole and not (tmp_path / f"new_{name}").exists()
    write_displacement_field(tmp_path / name, -field, affine)  # over what was there, leftovers included
    np.testing.assert_array_equal(read_displacement_field(tmp_path / name)[0], -field)


def test_nothing_else_is_left(tmp_path, affine, field):
    write_displacement_field(tmp_path / "field.nii.gz", field, affine)
    write_volume(str(tmp_path / "volume.nii"), field[0], affine)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["field.nii.gz", "volume.nii"]


def sheared(affine, cosine):
    changed = affine.copy()
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    changed[:3, 2] += cosine * spacing[2] * affine[:3, 0] / spacing[0]
    return changed


def test_itk_represents_what_check_geometry_accepts_and_only_that(tmp_path, affine, field):
    def misplaced(changed):
        image = nibabel.Nifti1Image(field[0], changed)
        image.set_qform(changed, code=1)
        image.set_sform(changed, code=1)
        nibabel.save(image, tmp_path / "x.nii")
        corner = np.subtract(SHAPE, 1)
        point = itk.imread(str(tmp_path / "x.nii")).TransformIndexToPhysicalPoint(corner.tolist())
        return np.abs(np.array(list(point)) * [-1, -1, 1] - (changed @ [*corner, 1])[:3]).max()

    check_geometry(sheared(affine, 9e-5), "fine.nii")
    assert misplaced(sheared(affine, 9e-5)) < 1e-3
    assert misplaced(sheared(affine, 0.02)) > 0.05
    with pytest.raises(ValueError, match=r"ct\.nii: a sheared voxel grid, two axes meet at 88\.8.*perpendicular"):
        check_geometry(sheared(affine, 0.02), "ct.nii")
    with pytest.raises(ValueError, match="sheared"):
        write_displacement_field(tmp_path / "field.nii", field, sheared(affine, 0.02))


def test_wrong_shapes_are_refused(tmp_path, affine, field):
    with pytest.raises(ValueError, match=r"field\.nii.*\(5, 6, 7\).*\(3, \*spatial\)"):
        write_displacement_field(tmp_path / "field.nii", field[0], affine)
    write_volume(tmp_path / "scalar.nii", field[0], affine)
    with pytest.raises(ValueError, match=r"scalar\.nii: shape \(5, 6, 7\) and intent 'none'"):
        read_displacement_field(tmp_path / "scalar.nii")
