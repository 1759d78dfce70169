# SPDX-License-Identifier: Apache-2.0
"""RandRelativeCropd: the same relative place for all keys, copies, clear errors; the central crop by MONAI."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import CenterSpatialCropd, Compose, SpatialPadd

from custom.transforms.crop import RandRelativeCropd
from custom.volumes import VolumeError


def coordinates(*size):
    """A volume (1, *size) whose values tell their own place: i * 10^4 + j * 10^2 + k."""
    i, j, k = torch.meshgrid(*(torch.arange(n) for n in size), indexing="ij")
    return (i * 10_000 + j * 100 + k)[None].float()


def start_of(crop):
    first = int(crop[0, 0, 0, 0])
    return np.array([first // 10_000, first // 100 % 100, first % 100])


def test_relative_place_is_the_same_in_volumes_of_different_size():
    crop = RandRelativeCropd(("moving", "fixed", "moving_label"), (6, 5, 4))
    crop.set_random_state(seed=0)
    sizes = {"moving": (20, 16, 12), "fixed": (13, 24, 5), "moving_label": (20, 16, 12)}
    starts = []
    for _ in range(50):
        item = crop({key: coordinates(*size) for key, size in sizes.items()})
        for key, size in sizes.items():
            # by hand: r = 0.5 in a volume of 20 with a crop of 6 starts at 7
            expected = [round(r * (n - c)) for r, n, c in zip(crop.relative_start, size, (6, 5, 4), strict=True)]
            assert start_of(item[key]).tolist() == expected
            i, j, k = expected
            assert torch.equal(item[key], coordinates(*size)[:, i : i + 6, j : j + 5, k : k + 4])
        assert torch.equal(item["moving"], item["moving_label"])
        starts.append(start_of(item["moving"]))
    assert (np.min(starts, axis=0) <= 1).all()  # the whole volume is reached: starts run to 14, 11, 8
    assert (np.max(starts, axis=0) >= [13, 10, 7]).all()


def test_axes_are_drawn_apart_and_seed_decides():
    crop = RandRelativeCropd("image", 4)
    item = {"image": coordinates(24, 24, 24)}
    first = [start_of(crop.set_random_state(seed=3)(item)["image"]).tolist() for _ in range(2)]
    assert first[0] == first[1] and len(set(first[0])) == 3
    assert start_of(crop.set_random_state(seed=4)(item)["image"]).tolist() != first[0]


def test_missing_keys_do_not_change_the_place():
    volume = coordinates(20, 20, 20)
    crop = RandRelativeCropd(("moving", "moving_label"), 5, allow_missing_keys=True)
    both = crop.set_random_state(seed=1)({"moving": volume, "moving_label": volume})
    alone = crop.set_random_state(seed=1)({"moving": volume, "name": "x"})
    assert torch.equal(both["moving"], alone["moving"]) and alone["name"] == "x"
    with pytest.raises(KeyError):
        RandRelativeCropd(("moving", "moving_label"), 5)({"moving": volume})


@pytest.mark.parametrize("kind", [torch.Tensor, MetaTensor])
@pytest.mark.parametrize("size", [5, 8])
def test_result_is_a_contiguous_copy(kind, size):
    volume = kind(coordinates(8, 8, 8))
    crop = RandRelativeCropd("image", size)({"image": volume})["image"]
    assert crop.is_contiguous() and isinstance(crop, kind)
    crop += 1e6
    assert volume.max() < 1e6


def test_affine_follows_the_crop():
    affine = torch.tensor([[-2.0, 0, 0, 5], [0, 1, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1]], dtype=torch.float64)
    crop = RandRelativeCropd("image", 4).set_random_state(seed=2)
    image = crop({"image": MetaTensor(coordinates(20, 20, 20), affine=affine)})["image"]
    expected = affine.numpy() @ [*start_of(image), 1]
    np.testing.assert_allclose(image.affine[:, 3], expected)


def test_volume_smaller_than_the_crop():
    small = MetaTensor(torch.rand(1, 20, 7, 20), meta={"filename_or_obj": "/data/patient7.nii.gz"})
    with pytest.raises(
        VolumeError, match=r"fixed \(/data/patient7.nii.gz\): volume of size \(20, 7, 20\) .* crop \(8, 8, 8\); pad it"
    ):
        RandRelativeCropd(("moving", "fixed"), 8)({"moving": torch.rand(1, 8, 8, 8), "fixed": small})


@pytest.mark.parametrize("roi_size", [0, (8, -1, 8), (8, 8)])
def test_roi_size(roi_size):
    with pytest.raises(ValueError):
        RandRelativeCropd("image", roi_size)


def test_monai_pads_and_crops_the_centre_for_validation():
    centre = Compose([SpatialPadd("image", (10, 10, 10)), CenterSpatialCropd("image", (10, 10, 10))])
    image = centre({"image": coordinates(20, 6, 11)})["image"]
    assert image.shape == (1, 10, 10, 10)
    assert start_of(image[:, :, 2:8])[0] == 5 and image[:, :, :2].abs().max() == 0
