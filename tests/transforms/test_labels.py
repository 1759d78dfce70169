# SPDX-License-Identifier: Apache-2.0
"""Label values to classes and back, undeclared values, and volumes on different grids."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, Orientationd

from custom.transforms import CheckedLoadImaged, DecodeLabelsd, EncodeAbsentd, EncodeLabelsd, SameGridd, ToSpacingd
from custom.volumes import VolumeError

LABELS = {"aorta": 820, "myocardium": 205, "left_atrium": 420}  # not in the order of the values


def meta(values, file="case_label.nii.gz", affine=None) -> MetaTensor:
    affine = torch.diag(torch.tensor([2.0, 2, 3, 1], dtype=torch.float64)) if affine is None else affine
    return MetaTensor(torch.as_tensor(values).float(), affine=affine, meta={"filename_or_obj": file})


def test_classes_follow_the_order_of_the_labels_and_values_come_back():
    values = torch.tensor([0, 820, 421, 205, 420, 0, 205, 5]).reshape(1, 2, 2, 2)
    encoded = EncodeLabelsd("label", LABELS, background=[421, 5])({"label": meta(values)})["label"]
    assert encoded.flatten().tolist() == [0, 1, 0, 2, 3, 0, 2, 0]
    assert isinstance(encoded, MetaTensor) and encoded.meta["filename_or_obj"] == "case_label.nii.gz"
    assert torch.equal(encoded.affine, meta(values).affine)
    decoded = DecodeLabelsd("label", LABELS)({"label": encoded})["label"]
    assert decoded.flatten().tolist() == [0, 820, 0, 205, 420, 0, 205, 0]
    assert decoded.dtype == torch.int32 and torch.equal(decoded.affine, encoded.affine)


def test_plain_tensors_and_missing_keys():
    item = {"label": torch.tensor([[[[820, 0]]]])}
    encode = EncodeLabelsd(["label", "other"], LABELS, allow_missing_keys=True)
    assert type(encode(item)["label"]) is torch.Tensor and encode(item)["label"].flatten().tolist() == [1, 0]
    assert item["label"].flatten().tolist() == [820, 0]  # the item is not changed
    decode = DecodeLabelsd(["label", "other"], LABELS, allow_missing_keys=True)
    assert decode(encode(item))["label"].flatten().tolist() == [820, 0]
    with pytest.raises(KeyError, match="other"):
        EncodeLabelsd("other", LABELS)(item)


@pytest.mark.parametrize("value", [-3, 1, 204, 421, 819, 821, 30000])
def test_an_undeclared_value_names_file_values_and_the_declared_ones(value):
    item = {"label": meta([[[[0, value, value, 205]]]])}
    with pytest.raises(VolumeError) as error:
        EncodeLabelsd("label", LABELS, background=[7])(item)
    for part in ("case_label.nii.gz", f"values {value} in 2 voxels", "'aorta': 820", "background [0, 7]"):
        assert part in str(error.value)


@pytest.mark.parametrize(("labels", "background"), [({}, []), ({"a": 1, "b": 1}, []), ({"a": 0}, []), ({"a": 2}, [2])])
def test_ambiguous_declarations_are_refused(labels, background):
    with pytest.raises(ValueError, match="expected different values"):
        EncodeLabelsd("label", labels, background)


def test_the_chain_of_an_inverse_passes_through():
    """EncodeLabelsd between invertible transforms, as a bundle has it: Invertd skips it."""
    chain = Compose([Orientationd(("image", "label"), axcodes="LPS"), EncodeLabelsd("label", LABELS)])
    image = meta(torch.rand(1, 3, 4, 5))
    item = chain({"image": image, "label": meta(torch.full((1, 3, 4, 5), 820))})
    back = Invertd("pred", chain, orig_keys="image")(item | {"pred": item["image"].clone()})["pred"]
    assert torch.equal(back.as_tensor(), image.as_tensor()) and torch.allclose(back.affine, image.affine)


def test_volumes_on_one_grid_pass():
    item = {"image": meta(torch.rand(1, 3, 4, 5), "case.nii.gz"), "label": meta(torch.zeros(1, 3, 4, 5))}
    item["label"].affine[0, 3] += 0.9  # of voxels of 2 mm: less than half a voxel
    same = SameGridd(["image", "label"])(item)
    assert same.keys() == item.keys() and torch.equal(same["label"].affine, item["image"].affine)
    SameGridd(["image", "label"], allow_missing_keys=True)({"image": item["image"]})


@pytest.mark.parametrize("difference", ["shape", "origin", "spacing", "flip"])
def test_volumes_on_different_grids_are_both_named(difference):
    image, label = meta(torch.rand(1, 4, 4, 5), "case.nii.gz"), meta(torch.zeros(1, 4, 4, 5))
    if difference == "shape":
        label = meta(torch.zeros(1, 4, 5, 4))
    else:
        row, column, value = {"origin": (1, 3, 1.1), "spacing": (2, 2, 3.3), "flip": (0, 0, -2)}[difference]
        label.affine[row, column] = value
    with pytest.raises(VolumeError, match="case_label.nii.gz: label map .*case.nii.gz"):
        SameGridd(["image", "label"])({"image": image, "label": label})


def test_a_label_map_a_fraction_of_a_voxel_off_gets_the_grid_of_its_image(tmp_path):
    """An origin that is 0.002 mm off, as other programs write it, changes nothing in the resampled label map."""
    files = {}
    for key, shift in (("image", 0.0), ("label", 0.002)):
        affine = np.diag([2.0, 2, 2, 1])
        affine[0, 3] = shift
        files[key] = str(tmp_path / f"{key}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), affine), files[key])
    keys = ["image", "label"]
    chain = Compose([CheckedLoadImaged(keys, label_keys="label"), SameGridd(keys), ToSpacingd(keys, (1.0, 1.0, 1.0))])
    item = chain(files)
    assert item["label"].shape == item["image"].shape and torch.equal(item["label"].affine, item["image"].affine)


def test_values_beyond_float32_stay_apart():
    """2^24 and 2^24 + 1 are one number in float32, 2^31 - 1 and 2^31 - 2 too."""
    labels = {"a": 2**24, "b": 2**24 + 1, "c": 2**31 - 1, "d": 2**31 - 2}
    values = torch.tensor([0, *labels.values()], dtype=torch.int32).reshape(1, 1, 1, 5)
    encoded = EncodeLabelsd("label", labels)({"label": values})["label"]
    assert encoded.flatten().tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(DecodeLabelsd("label", labels)({"label": encoded})["label"], values)
    with pytest.raises(VolumeError, match="label values 16777217 in 1 voxels"):
        EncodeLabelsd("label", {"a": 2**24, "c": 2**31 - 1, "d": 2**31 - 2})({"label": values})


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 1.5, "1"])
def test_values_that_an_int32_map_cannot_hold_are_refused(value):
    for transform in (EncodeLabelsd, DecodeLabelsd):
        with pytest.raises(ValueError, match="expected whole numbers from -2147483648 to 2147483647"):
            transform("label", {"a": value})


def test_resampling_refuses_integers_that_float32_would_merge():
    item = {
        "label": MetaTensor(torch.tensor([2**24 + 1, 0] * 4).reshape(1, 2, 2, 2), meta={"filename_or_obj": "x.nii"})
    }
    with pytest.raises(VolumeError, match="x.nii: label value 16777217, expected at most 16777216"):
        ToSpacingd("label", (2.0, 2.0, 2.0), mode="nearest")(item)


def test_absent_structures_become_a_tensor_of_classes():
    encode = EncodeAbsentd("absent", {"cord": 2, "jaw": 5})
    assert encode({"absent": ["jaw"]})["absent"].tolist() == [False, False, True]
    assert encode({"absent": []})["absent"].tolist() == [False] * 3
    with pytest.raises(ValueError, match=r"absent has the structures \['liver'\], expected some of \['cord', 'jaw'\]"):
        encode({"absent": ["liver"]})


def test_decoded_labels_have_the_memory_order_of_nifti_files():
    classes = torch.randint(0, 4, (1, 37, 5, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    decoded = DecodeLabelsd("label", LABELS)({"label": MetaTensor(classes)})["label"].as_tensor()
    assert decoded[0].numpy().flags.f_contiguous
    assert torch.equal(decoded, torch.tensor([0, *LABELS.values()], dtype=torch.int32)[classes.long()])
