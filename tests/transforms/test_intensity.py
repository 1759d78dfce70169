# SPDX-License-Identifier: Apache-2.0
"""CheckedIntensityd: what is left of the image after the intensity step, and whether a volume looks like HU."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import ScaleIntensityd, ScaleIntensityRanged, ScaleIntensityRangePercentilesd

from custom.transforms import CheckedIntensityd, looks_like_hu
from custom.volumes import VolumeError

CT = CheckedIntensityd(ScaleIntensityRanged("image", -1024, 1024, 0.0, 1.0, clip=True))


def chest(seed: int = 0) -> np.ndarray:
    """Air, lung and soft tissue in HU, with noise."""
    values = np.repeat([-1000.0, -800.0, 40.0], [300, 200, 500]).reshape(10, 10, 10)
    return values + np.random.default_rng(seed).normal(scale=15, size=values.shape)


def volume(values: np.ndarray, name: str) -> dict:
    return {"image": MetaTensor(torch.as_tensor(values[None].astype(np.float32)), meta={"filename_or_obj": name})}


def test_a_ct_in_hu_is_scaled_as_by_the_transform_itself(caplog):
    item = volume(chest(), "ct.nii.gz")
    assert torch.equal(CT(item)["image"].as_tensor(), CT.intensity(item)["image"].as_tensor())
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("offset", chest() + 32768),
        ("offset_with_padding", np.pad(chest() + 32768, 3)),
        ("unit", (chest() + 1024) / 2048),
        ("below", chest() - 40000),
        ("metal", np.where(np.arange(1000).reshape(10, 10, 10) == 7, 3000.0, 0.5 + 0.001 * chest() / 1000)),
    ],
)
def test_nothing_left_names_file_range_and_window(name, values):
    with pytest.raises(VolumeError) as error:
        CT(volume(values, f"{name}.nii.gz"))
    lowest, highest = np.float32(values.min()), np.float32(values.max())
    message = str(error.value)
    assert message.startswith(f"{name}.nii.gz: raw intensities from {lowest:g} to {highest:g}")
    assert "ScaleIntensityRanged(a_min -1024, a_max 1024, b_min 0, b_max 1): nothing is left" in message


def test_an_mr_in_a_hu_window_is_warned_about_once(caplog):
    values = np.random.default_rng(0).integers(0, 900, (10, 10, 10))
    for _ in range(2):
        CT(volume(values, "mr_for_the_warning.nii.gz"))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and "does not look like HU" in record.message
    assert "mr_for_the_warning.nii.gz: raw intensities from 0 to 898" in record.message


@pytest.mark.parametrize(
    "transform",
    [
        ScaleIntensityRangePercentilesd("image", 0.5, 99.5, 0.0, 1.0, clip=True),
        ScaleIntensityd("image", 0.0, 1.0),
        ScaleIntensityRanged("image", 0, 900, 0.0, 1.0, clip=True),
    ],
)
def test_steps_for_mr_are_not_about_hu(transform, caplog):
    CheckedIntensityd(transform)(volume(np.random.default_rng(0).integers(0, 900, (10, 10, 10)), "mr.nii.gz"))
    assert not caplog.records


def test_two_values_are_no_image_for_any_step():
    values = np.where(np.arange(1000).reshape(10, 10, 10) < 500, 0.0, 1.0)
    with pytest.raises(
        VolumeError, match=r"a.nii.gz: raw intensities from 0 to 1, .*ScaleIntensityd\(minv 0, maxv 1\)"
    ):
        CheckedIntensityd(ScaleIntensityd("image", 0.0, 1.0))(volume(values, "a.nii.gz"))


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (ScaleIntensityRanged("image", 1024, -1024, 0.0, 1.0), "a_min is 1024 and a_max -1024, expected a_min < a_max"),
        (ScaleIntensityRanged("image", 7, 7, 0.0, 1.0), "a_min is 7 and a_max 7"),
        (ScaleIntensityRanged("image", 0, 7, 1.0, 0.0), "b_min is 1 and b_max 0"),
        (ScaleIntensityRangePercentilesd("image", 99, 1, 0.0, 1.0), "lower is 99 and upper 1"),
    ],
)
def test_a_window_of_no_width_is_refused(transform, message):
    with pytest.raises(ValueError, match=message):
        CheckedIntensityd(transform)


def test_missing_keys_are_the_transforms_own():
    transform = ScaleIntensityRanged(["image", "other"], -1024, 1024, 0.0, 1.0, clip=True, allow_missing_keys=True)
    assert set(CheckedIntensityd(transform)(volume(chest(), "ct.nii.gz"))) == {"image"}


def test_what_looks_like_hu():
    ct = torch.as_tensor(chest())
    assert looks_like_hu(ct)
    for other in (ct + 1024, (ct + 1024) / 2048, ct - 1024, ct.abs()):
        assert not looks_like_hu(other)


def test_other_keys_than_those_of_the_transform():
    transform = ScaleIntensityRanged("image", -1024, 1024, 0.0, 1.0, clip=True)
    ct = volume(chest(), "ct.nii.gz")["image"]
    checked = CheckedIntensityd(transform, keys=["moving", "fixed"])({"moving": ct, "fixed": ct, "image": ct})
    assert checked["moving"].max() <= 1 and checked["fixed"].max() <= 1 and checked["image"] is ct
    assert transform.keys == ("image",)


def test_each_channel_is_scaled_and_checked_by_itself():
    transform = CheckedIntensityd(ScaleIntensityRangePercentilesd("image", 0, 100, 0.0, 1.0))
    channels = torch.as_tensor(np.random.default_rng(0).random((2, 5, 5, 5)) * [[[[10.0]]], [[[1000.0]]]])
    image = MetaTensor(channels, affine=torch.diag(torch.tensor([2.0, 2, 2, 1])), meta={"filename_or_obj": "mr.nii"})
    scaled = transform({"image": image, "label": "kept"})
    assert scaled["label"] == "kept" and scaled["image"].meta["filename_or_obj"] == "mr.nii"
    assert torch.equal(scaled["image"].affine, image.affine)
    for number in range(2):
        alone = transform({"image": image[number : number + 1]})["image"]
        assert torch.equal(scaled["image"][number : number + 1].as_tensor(), alone.as_tensor())
        assert alone.min() == 0 and alone.max() == 1
    image[1] = 0.5 + 0.5 * (image[1] > 500)
    with pytest.raises(VolumeError, match="mr.nii, channel 2 of 2: .* nothing is left"):
        transform({"image": image})
