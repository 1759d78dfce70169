# SPDX-License-Identifier: Apache-2.0
"""The pair: one size, true affines, errors that name the file."""

import itk
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from oblique import BOTH, PREPROCESSING, make_affine, moving_value, points

from custom.registration import CommonSized, RegistrationPair
from custom.volumes import VolumeError, write_volume

GRIDS = {
    "moving": (make_affine((40, 38, 20), (0.9, 1.3, 2.5), (12, -20, 25), (30, -40, 60), (-1, 1, 1)), (40, 38, 20)),
    "fixed": (make_affine((36, 26, 33), (1.3, 2.5, 0.9), (-100, 10, 40), (-15, 25, 10), (1, -1, 1)), (36, 26, 33)),
}


def volume(shape):
    return MetaTensor(torch.rand(1, *shape), affine=torch.diag(torch.tensor([2.0, 3, 4, 1], dtype=torch.float64)))


def test_common_size_is_the_largest_of_each_axis_within_the_limit():
    pair = {"moving": volume((10, 7, 5)), "fixed": volume((6, 8, 9))}
    assert all(tuple(v.shape[1:]) == (10, 8, 9) for v in CommonSized(BOTH)(pair).values())
    assert all(tuple(v.shape[1:]) == (8, 8, 8) for v in CommonSized(BOTH, max_size=8)(pair).values())
    assert all(tuple(v.shape[1:]) == (4, 8, 9) for v in CommonSized(BOTH, max_size=(4, 20, 20))(pair).values())


def test_padding_and_cropping_move_the_affine_with_the_voxels():
    pair = {"moving": volume((10, 7, 5)), "fixed": volume((6, 8, 9))}
    fixed = CommonSized(BOTH, max_size=(20, 5, 20))(pair)["fixed"]
    front = 2, -2, 0  # 6 -> 10 pads 2 in front, 8 -> 5 (the limit) drops 2 in front of 3, 9 stays
    np.testing.assert_array_equal(fixed.as_tensor()[0, 2:8, :, :], pair["fixed"].as_tensor()[0, :, 2:7, :])
    np.testing.assert_allclose(fixed.affine[:3, 3], -np.array(front) * [2, 3, 4])


@pytest.mark.parametrize("size", [0, -4, 2.5, (8, 0, 8)])
def test_a_largest_size_is_a_whole_number_above_zero(size):
    with pytest.raises(ValueError, match="max_size is .*, expected whole numbers of voxels above 0"):
        CommonSized(BOTH, max_size=size)


def test_constant_padding_is_zero():
    pair = {"moving": volume((10, 7, 5)), "fixed": volume((6, 8, 9))}
    assert CommonSized(BOTH)(pair)["fixed"][0, :2].abs().max() == 0


@pytest.fixture
def files(tmp_path):
    for side, (affine, shape) in GRIDS.items():
        centre = points(affine, shape).mean(axis=(1, 2, 3)) - [30, -40, 60]
        shifted = points(affine, shape) - centre.reshape(3, 1, 1, 1)
        write_volume(tmp_path / f"{side}.nii.gz", moving_value(shifted).astype(np.float32), affine)
        write_volume(tmp_path / f"{side}_label.nii.gz", (moving_value(shifted) > 300).astype(np.int16), affine)
    return {side: str(tmp_path / f"{side}.nii.gz") for side in BOTH} | {"dataset_dir": ""}


def test_affines_lead_from_preprocessed_voxels_to_the_patient(files):
    item = RegistrationPair(**files, transform=PREPROCESSING)[0]
    assert item["moving"].shape == item["fixed"].shape == item["moving_transformed"].shape
    for side, (affine, shape) in GRIDS.items():
        found = item[f"{side}_affine"]
        assert type(item[side]) is torch.Tensor and found.dtype == torch.float64
        at = points(found.numpy(), item[side].shape[1:])
        np.testing.assert_allclose(np.linalg.norm(found[:3, :3], axis=0), (2.0, 2.2, 1.8), rtol=1e-6)
        inverse = np.linalg.inv(affine)
        voxel = np.tensordot(inverse[:3, :3], at, axes=1) + inverse[:3, 3].reshape(3, 1, 1, 1)
        inside = ((voxel >= 1) & (voxel <= np.array(shape).reshape(3, 1, 1, 1) - 2)).all(axis=0)
        centre = points(affine, shape).mean(axis=(1, 2, 3)) - [30, -40, 60]
        expected = moving_value(at - centre.reshape(3, 1, 1, 1))
        assert inside.sum() > 5000
        error = np.abs(item[side][0].numpy() - expected)[inside]
        assert error.max() < 25 and error.mean() < 3  # of a range of 1000; half a voxel off gives 100 and more
        half = moving_value(at - centre.reshape(3, 1, 1, 1) + 0.5 * found[:3, :1, None, None].numpy())
        assert np.abs(item[side][0].numpy() - half)[inside].mean() > 5


def test_paths_start_from_dataset_dir_and_other_formats_are_read(files, tmp_path):
    itk.imwrite(itk.imread(files["moving"]), str(tmp_path / "moving.nrrd"))
    pair = RegistrationPair("moving.nrrd", "fixed.nii.gz", PREPROCESSING, dataset_dir=str(tmp_path))
    assert pair.files == {"moving": str(tmp_path / "moving.nrrd"), "fixed": files["fixed"]}
    item = pair[0]
    same = RegistrationPair(**files, transform=PREPROCESSING)[0]
    torch.testing.assert_close(item["moving"], same["moving"], atol=1e-2, rtol=0)
    torch.testing.assert_close(item["moving_affine"], same["moving_affine"], atol=1e-4, rtol=0)


def test_one_item(files):
    pair = RegistrationPair(**files, transform=PREPROCESSING)
    assert len(pair) == 1
    with pytest.raises(IndexError, match="index is 1, expected 0"):
        pair[1]


def test_what_is_not_given_is_named():
    with pytest.raises(ValueError, match="moving is not given, expected the path of a volume, --moving FILE"):
        RegistrationPair(None, "f.nii", PREPROCESSING)[0]
    with pytest.raises(ValueError, match="fixed is not given"):
        RegistrationPair("m.nii", None, PREPROCESSING)[0]
    with pytest.raises(ValueError, match=r"fixed_label l\.nii has no moving_label"):
        RegistrationPair("m.nii", "f.nii", PREPROCESSING, fixed_label="l.nii")[0]


def test_bad_files_are_named(files, tmp_path):
    with pytest.raises(VolumeError, match=r"nowhere\.nii: no such file"):
        RegistrationPair(str(tmp_path / "nowhere.nii"), files["fixed"], PREPROCESSING)[0]
    with pytest.raises(VolumeError, match=r"fixed_label\.nii\.gz: label map of shape.*moving\.nii\.gz"):
        RegistrationPair(**files, moving_label=str(tmp_path / "fixed_label.nii.gz"), transform=PREPROCESSING)[0]


def test_label_maps_have_the_grid_of_their_image(files, tmp_path):
    """A label map that lies less than half a voxel off is accepted, and is then on the voxels of the image."""
    affine, shape = GRIDS["moving"]
    shifted = affine.copy()
    shifted[:3, 3] += 0.4 * affine[:3, 0]
    label = np.arange(np.prod(shape)).reshape(shape) % 7
    write_volume(tmp_path / "shifted.nii.gz", label.astype(np.int16), shifted)
    item = RegistrationPair(**files, moving_label=str(tmp_path / "shifted.nii.gz"), transform=PREPROCESSING)[0]
    assert item["moving_file_label"].dtype == torch.int16 and (item["moving_file_label"].numpy() == label).all()
    np.testing.assert_allclose(item["moving_file_affine"], affine, atol=1e-4)
    np.testing.assert_allclose(item["fixed_file_affine"], GRIDS["fixed"][0], atol=1e-4)
    assert item["fixed_file_shape"].tolist() == list(GRIDS["fixed"][1]) and "fixed_file_label" not in item


def test_volumes_of_two_sizes_are_refused(files):
    with pytest.raises(ValueError, match="moving and fixed have shapes .* expected one shape .CommonSized"):
        RegistrationPair(**files, transform=PREPROCESSING[:-1])[0]
