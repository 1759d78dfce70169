# SPDX-License-Identifier: Apache-2.0
"""Lungs by threshold: against the phantoms' masks, on real chests, with consolidation, and given masks."""

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import CropForegroundd, Orientation

from custom.phantoms import make_chest_subject
from custom.transforms.lungs import LungMaskd, lung_mask
from custom.volumes import VolumeError

SPACING = (5.0, 5.0, 5.0)


@pytest.fixture(scope="module")
def chest() -> tuple[np.ndarray, np.ndarray]:
    """Image and lung mask of a coarse phantom with disease, in RAS order."""
    image, mask, affine = make_chest_subject(11, True, SPACING)
    turned = [nibabel.as_closest_canonical(nibabel.Nifti1Image(part, affine)).get_fdata() for part in (image, mask)]
    return turned[0].astype(np.float32), turned[1] > 0


def volume(array: np.ndarray, name: str = "chest.nii.gz") -> MetaTensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None]
    return MetaTensor(tensor, affine=torch.diag(torch.tensor([*SPACING, 1.0])), meta={"filename_or_obj": name})


def box(mask: np.ndarray) -> np.ndarray:
    inside = np.argwhere(mask)
    return np.array([inside.min(axis=0), inside.max(axis=0)])


def test_agrees_with_the_phantom(chest):
    image, lungs = chest
    found = lung_mask(image, SPACING)
    assert found.dtype == bool and found.shape == image.shape
    assert 2 * (found & lungs).sum() / (found.sum() + lungs.sum()) > 0.88
    assert (found & lungs).sum() / lungs.sum() > 0.9
    difference = np.abs(box(found) - box(lungs))
    assert difference[:, :2].max() <= 2  # the trachea reaches higher than the lungs
    assert difference[0, 2] <= 2


def test_consolidation_inside_and_at_the_pleura_is_lung(chest):
    image, lungs = chest
    x, y, z = np.indices(image.shape)
    right = lungs & (x > image.shape[0] / 2)
    filled = image.copy()
    middle = np.argwhere(right).mean(axis=0)
    ball = (x - middle[0]) ** 2 + (y - middle[1]) ** 2 + (z - middle[2]) ** 2 < 4**2
    edge = np.array([np.flatnonzero(right[:, int(middle[1]), int(middle[2])]).max(), middle[1], middle[2]])
    at_wall = (x - edge[0]) ** 2 + (y - edge[1]) ** 2 + (z - edge[2]) ** 2 < 2**2
    consolidated = lungs & (ball | at_wall)
    filled[consolidated] = 40
    found = lung_mask(filled, SPACING)
    assert found[consolidated].mean() > 0.85


def test_air_outside_the_body_is_no_lung_and_cut_lungs_are(chest):
    image, lungs = chest
    low, high = box(lungs)[:, 2]
    cut = slice((low + 2 * high) // 3 - 12, (low + 2 * high) // 3)  # planes in which the lungs reach both ends
    found = lung_mask(image[:, :, cut], SPACING)
    assert (found & lungs[:, :, cut]).sum() / lungs[:, :, cut].sum() > 0.88
    assert not found[0].any() and not found[:, 0].any()


def test_fine_voxels_are_averaged_and_come_back(chest):
    image, lungs = chest
    fine = image.repeat(2, axis=0).repeat(2, axis=1)[:-1]
    found = lung_mask(fine, (2.5, 2.5, 5.0))
    assert found.shape == fine.shape
    same = found[::2, ::2] == lung_mask(image, SPACING)[: found[::2, ::2].shape[0]]
    assert same.mean() > 0.97


def test_real_chests(shared_data):
    for name, litres in (("LIDC-IDRI-0001", (3, 5)), ("LungDx-A0002", (2, 4))):
        image = nibabel.as_closest_canonical(nibabel.load(shared_data / "chest_ct" / f"{name}.nii.gz"))
        found = lung_mask(image.get_fdata(), image.header.get_zooms())
        assert litres[0] < found.sum() * np.prod(image.header.get_zooms()) / 1e6 < litres[1]
        low, high = box(found)
        assert (low[:2] > 2).all() and (high[:2] < np.array(image.shape)[:2] - 3).all()
        assert np.median(image.get_fdata()[found]) < -700


def test_transform_and_crop(chest):
    image, lungs = chest
    item = LungMaskd("image", "mask")({"image": volume(image)})
    assert item["mask"].shape == (1, *image.shape) and item["mask"].dtype == torch.float32
    assert torch.equal(item["mask"].affine, item["image"].affine)
    cropped = CropForegroundd(["image", "mask"], source_key="mask", margin=2, allow_smaller=True)(item)
    low, high = box(np.asarray(item["mask"][0]) > 0)
    size = np.minimum(high + 3, image.shape) - np.maximum(low - 2, 0)
    assert cropped["image"].shape[1:] == tuple(size)


def test_given_mask_is_used(chest):
    image, lungs = chest
    item = LungMaskd("image", "mask")({"image": volume(image), "mask": volume(lungs * 2)})
    assert np.array_equal(item["mask"][0].numpy(), lungs.astype(np.float32))


def test_a_volume_whose_last_axis_is_not_from_top_to_bottom_is_refused(chest):
    turned = Orientation("SAR", labels=(("L", "R"), ("P", "A"), ("I", "S")))(volume(chest[0]))
    with pytest.raises(VolumeError, match="axes SAR, expected left-right, back-front and top-bottom"):
        LungMaskd("image")({"image": turned})


def test_errors_name_the_file(chest):
    image, lungs = chest
    transform = LungMaskd("image", "mask")
    with pytest.raises(VolumeError, match=r"solid\.nii\.gz.* ml of lung"):
        transform({"image": volume(np.random.default_rng(0).normal(40, 10, image.shape), "solid.nii.gz")})
    with pytest.raises(VolumeError, match=r"empty\.nii\.gz.* 0 ml"):
        transform({"image": volume(image), "mask": volume(0 * lungs, "empty.nii.gz")})
    with pytest.raises(VolumeError, match=r"mask\.nii\.gz.*chest\.nii\.gz"):
        transform({"image": volume(image), "mask": volume(lungs[1:], "mask.nii.gz")})
    with pytest.raises(ValueError, match="one image"):
        LungMaskd(["image", "other"])
