# SPDX-License-Identifier: Apache-2.0
"""ToSpacingd: what Spacingd does, on the items that MONAI Label makes as well."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import Compose, Invertd, Spacingd

from custom.transforms import CheckedLoadImaged, ToSpacingd

ARGUMENTS = {"keys": ("image", "label"), "pixdim": (1.5, 2.0, 1.0), "mode": ("bilinear", "nearest")}


@pytest.fixture
def item(tmp_path):
    image = np.random.default_rng(0).normal(size=(8, 9, 7)).astype(np.float32)
    paths = {}
    for key, array in (("image", image), ("label", (image > 0).astype(np.uint8))):
        paths[key] = str(tmp_path / f"{key}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(array, np.diag([1.0, 1.2, 2.0, 1.0])), paths[key])
    return CheckedLoadImaged(("image", "label"), label_keys="label")(paths)


def test_strings_beside_a_volume_stay_as_they_are(item):
    beside = {"image_path": "somewhere", "label_path": 3, "image_meta_dict": {"a": 1}, "images": "other"}
    with pytest.raises(AttributeError, match="update"):
        Spacingd(**ARGUMENTS)(item | beside)  # when this passes, MONAI is mended and ToSpacingd may go
    result = ToSpacingd(**ARGUMENTS)(item | beside)
    assert {name: result[name] for name in ("image_path", "label_path", "images")} == {
        name: beside[name] for name in ("image_path", "label_path", "images")
    }
    expected = Spacingd(**ARGUMENTS)(item)
    for key in ("image", "label"):
        assert torch.equal(result[key].as_tensor(), expected[key].as_tensor())
        assert torch.equal(result[key].affine, expected[key].affine)


def test_invertd_finds_the_inverse(item):
    chain = Compose([ToSpacingd("image", (1.0, 1.0, 1.0), mode="bilinear")])
    transformed = chain(item | {"image_path": "somewhere"})
    back = Invertd("pred", chain, orig_keys="image")(transformed | {"pred": transformed["image"].clone()})["pred"]
    assert back.shape == item["image"].shape and torch.allclose(back.affine, item["image"].affine)
    correlation = np.corrcoef(back.numpy().ravel(), item["image"].numpy().ravel())[0, 1]
    assert correlation > 0.95
