# SPDX-License-Identifier: Apache-2.0
"""Images of several channels: one file or a file each gives one tensor; other channels and grids are named."""

from __future__ import annotations

from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest
import torch

from custom.transforms import CheckedLoadImaged
from custom.volumes import VolumeError, check_image, load_image, load_volume

SHAPE, CHANNELS = (6, 5, 4), 3
AFFINE = np.diag([2.0, 1.0, 3.0, 1.0])
ARRAY = np.random.default_rng(0).normal(size=(*SHAPE, CHANNELS)).astype(np.float32)


def write(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> str:
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    return [write(tmp_path / f"case_000{number}.nii.gz", ARRAY[..., number]) for number in range(CHANNELS)]


def test_every_form_gives_the_same_image(files: list[str], tmp_path: Path) -> None:
    vectors = itk.image_from_array(np.ascontiguousarray(ARRAY.transpose(2, 1, 0, 3)), is_vector=True)
    vectors.SetSpacing([2.0, 1.0, 3.0])
    itk.imwrite(vectors, str(tmp_path / "vectors.mha"))
    itk.imwrite(vectors, str(tmp_path / "vectors.nrrd"))
    forms = [
        write(tmp_path / "four.nii.gz", ARRAY),
        write(tmp_path / "five.nii", ARRAY[:, :, :, None]),
        str(tmp_path / "vectors.mha"),
        str(tmp_path / "vectors.nrrd"),
        files,
        tuple(files),
    ]
    for form in forms:
        image = load_image(form, CHANNELS)
        assert image.shape == (CHANNELS, *SHAPE) and image.dtype == torch.float32, form
        np.testing.assert_array_equal(image.numpy(), ARRAY.transpose(3, 0, 1, 2), err_msg=str(form))
        np.testing.assert_allclose(np.abs(image.affine), np.abs(AFFINE), err_msg=str(form))
        check_image(form, CHANNELS)
    assert load_image(files, CHANNELS).meta["filename_or_obj"] == files[0]
    assert torch.equal(load_image(files[0]), load_volume(files[0]))


@pytest.mark.parametrize("check", [load_image, check_image], ids=["loaded", "header"])
def test_another_number_of_channels_is_named(check, files: list[str], tmp_path: Path) -> None:
    four = write(tmp_path / "four.nii.gz", ARRAY)
    with pytest.raises(VolumeError, match=r"four.nii.gz: 3 channels or time .* one 3D volume .*, or --in_channels 3"):
        check(four)
    with pytest.raises(VolumeError, match=r"four.nii.gz: 3 channels of shape \(6, 5, 4\), expected 2 channels"):
        check(four, 2)
    with pytest.raises(VolumeError, match=r"case_0000.nii.gz: 1 channels of shape \(6, 5, 4\), expected 3 channels"):
        check(files[0], 3)
    with pytest.raises(VolumeError, match=r"case_0000.nii.gz, .*case_0001.nii.gz: 2 files, expected 3, one a channel"):
        check(files[:2], 3)
    with pytest.raises(VolumeError, match="four.nii.gz: 3 channels or time points"):
        check([four, *files[1:]], 3)


def test_a_label_map_has_one_channel(tmp_path: Path) -> None:
    label = write(tmp_path / "label.nii", (ARRAY > 0).astype(np.uint8))
    with pytest.raises(VolumeError, match="3 channels .* with one number per voxel$"):
        load_volume(label, is_label=True)


def test_channels_on_different_grids_name_both_files(files: list[str], tmp_path: Path) -> None:
    moved = AFFINE.copy()
    moved[0, 3] = 1.0
    other = write(tmp_path / "moved.nii.gz", ARRAY[..., 1], moved)
    with pytest.raises(VolumeError, match=r"moved.nii.gz: channel lies up to 1.00 mm off .*case_0000.nii.gz"):
        load_image([files[0], other, files[2]], 3)
    other = write(tmp_path / "smaller.nii.gz", ARRAY[:5, ..., 1])
    with pytest.raises(VolumeError, match=r"smaller.nii.gz: channel of shape \(5, 5, 4\), expected \(6, 5, 4\)"):
        load_image([files[0], files[1], other], 3)


def test_a_constant_channel_is_named(tmp_path: Path) -> None:
    array = ARRAY.copy()
    array[..., 1] = 7
    with pytest.raises(VolumeError, match="four.nii.gz: channel 2 of 3 is constant, every voxel is 7"):
        load_image(write(tmp_path / "four.nii.gz", array), 3)


def test_the_label_map_of_an_image_of_channels_gets_its_grid(files: list[str], tmp_path: Path) -> None:
    nearly = AFFINE.copy()
    nearly[0, 3] = 0.1
    label = write(tmp_path / "label.nii.gz", (ARRAY[..., 0] > 0).astype(np.uint8), nearly)
    item = CheckedLoadImaged(("image", "label"), "label", channels=3)({"image": files, "label": label})
    assert item["image"].shape == (3, *SHAPE) and item["label"].shape == (1, *SHAPE)
    assert torch.equal(item["label"].affine, item["image"].affine)
