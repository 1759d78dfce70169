# SPDX-License-Identifier: Apache-2.0
"""Point 5 of issue A: the written field, read by ITK, reproduces the written warped image, and both are true."""

import json

import nibabel
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader
from oblique import (
    PREPROCESSING,
    corresponding_point,
    itk_read_field,
    itk_resample,
    make_affine,
    moving_value,
    points,
)
from torch import nn

from custom.engines import PrepareBatch, PretextEvaluator
from custom.files import read_json
from custom.layers import PhysicalConventions
from custom.registration import RegistrationFiles, RegistrationPair, label_dice, read_displacement_field
from custom.registration.files import read_label, worse_than_before
from custom.registration.world import pull_image
from custom.volumes import write_volume

MOVING_SHAPE, FIXED_SHAPE = (66, 46, 27), (40, 27, 52)
MOVING = make_affine(MOVING_SHAPE, (0.9, 1.3, 2.5), (12, -20, 25), (30, -40, 60), (-1, 1, 1))
FIXED = make_affine(FIXED_SHAPE, (1.3, 2.3, 0.9), (-100, 10, 40), (-15, 25, 10), (1, -1, 1))
RANGE = 1000  # HU of the moving image


class PlantedNetwork(nn.Module):
    """Gives the displacement in voxels of `corresponding_point`, from nothing but the affines of the batch."""

    def forward(self, batch):
        moving_affine, fixed_affine = (batch[f"{side}_affine"][0].numpy() for side in ("moving", "fixed"))
        shape = batch["fixed"].shape[2:]
        homogeneous = np.concatenate([corresponding_point(points(fixed_affine, shape)), np.ones((1, *shape))])
        moving_voxel = np.tensordot(np.linalg.inv(moving_affine)[:3], homogeneous, axes=1)
        displacement = moving_voxel - np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
        displacement = torch.from_numpy(displacement).float()[None]
        identity = torch.eye(3, 4)[None]
        return {"affine_matrix": identity, "local_displacement": displacement, "displacement": displacement}


class PhysicalHead:
    """The part of a matching head that `RegistrationFiles` asks."""

    conventions = PhysicalConventions((2.0, 2.2, 1.8))


def register(names: dict[str, str], output) -> None:
    """Writes the files of a planted pair."""
    evaluator = PretextEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(RegistrationPair(**names, transform=PREPROCESSING), batch_size=1),
        network=PlantedNetwork(),
        measures=[lambda outputs, batch: {"planted_measure": torch.tensor([0.25])}],
        prepare_batch=PrepareBatch(),
        val_handlers=[RegistrationFiles(str(output), PhysicalHead(), background=-2000)],
    )
    evaluator.run()


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """The files of a planted pair and of its registration."""
    folder = tmp_path_factory.mktemp("registered")
    value = moving_value(points(MOVING, MOVING_SHAPE))
    fixed_value = moving_value(corresponding_point(points(FIXED, FIXED_SHAPE)))
    names = {}
    for name, values, affine in (("moving", value, MOVING), ("fixed", fixed_value, FIXED)):
        names[name] = str(folder / f"{name}.nii.gz")
        names[f"{name}_label"] = str(folder / f"{name}_label.nii.gz")
        write_volume(names[name], values.astype(np.float32), affine)
        write_volume(names[f"{name}_label"], (500 * (values > 200) + 50 * (values > 400)).astype(np.int16), affine)
    register(names, folder / "out")
    return folder


def read(path):
    return np.asarray(nibabel.load(path).dataobj)


def interior(warped):
    """Voxels whose neighbours all lie inside of the moving image, away from the border of the fixed one."""
    inside = warped > -1999
    for axis in range(3):
        inside &= np.roll(inside, 1, axis) & np.roll(inside, -1, axis)
    return inside


def test_output_lies_on_the_fixed_grid(registered):
    for name in ("warped", "warped_label"):
        image = nibabel.load(registered / "out" / f"{name}.nii.gz")
        assert image.shape == FIXED_SHAPE
        np.testing.assert_allclose(image.affine, FIXED, atol=1e-4)
    field, affine = read_displacement_field(registered / "out" / "displacement_field.nii.gz")
    assert field.shape == (3, *FIXED_SHAPE)
    np.testing.assert_allclose(affine, FIXED, atol=1e-4)


def test_itk_reproduces_the_warped_image_from_the_field(registered):
    warped = read(registered / "out" / "warped.nii.gz")
    field = itk_read_field(registered / "out" / "displacement_field.nii.gz")
    judged = itk_resample(registered / "moving.nii.gz", field, registered / "fixed.nii.gz", -2000)
    inside = interior(warped)
    assert inside.mean() > 0.5
    assert np.abs(warped - judged)[inside].max() < 1e-5 * RANGE
    assert (np.abs(warped - judged) < 1e-3 * RANGE).mean() > 0.999  # the border too
    label = itk_resample(registered / "moving_label.nii.gz", field, registered / "fixed.nii.gz", 0, nearest=True)
    assert (label == read(registered / "out" / "warped_label.nii.gz")).mean() > 0.9999


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda v: -v, id="sign"),
        pytest.param(lambda v: v * [-1, -1, 1], id="RAS instead of LPS"),
        pytest.param(lambda v: v[..., [1, 0, 2]], id="swapped x and y"),
        pytest.param(lambda v: v[..., ::-1], id="reversed axes"),
        pytest.param(lambda v: v / [1.3, 2.3, 0.9], id="voxels instead of millimetres"),
        pytest.param(lambda v: np.roll(v, 1, axis=2), id="one voxel off"),
    ],
)
def test_a_wrong_field_would_be_seen(registered, wrong):
    warped = read(registered / "out" / "warped.nii.gz")
    field = itk_read_field(registered / "out" / "displacement_field.nii.gz", wrong)
    judged = itk_resample(registered / "moving.nii.gz", field, registered / "fixed.nii.gz", -2000)
    assert np.abs(warped - judged)[interior(warped)].mean() > 1e-3 * RANGE


def test_the_field_is_the_planted_map(registered):
    field, affine = read_displacement_field(registered / "out" / "displacement_field.nii.gz")
    at = points(FIXED, FIXED_SHAPE)
    error = np.linalg.norm(field - (corresponding_point(at) - at), axis=0)[2:-2, 2:-2, 2:-2]
    assert error.mean() < 0.02 and error.max() < 0.1  # millimetres, of trilinear interpolation at 2 mm


def test_the_warped_image_is_the_fixed_one(registered):
    warped, fixed = read(registered / "out" / "warped.nii.gz"), read(registered / "fixed.nii.gz")
    error = np.abs(warped - fixed)[interior(warped)]
    assert error.mean() < 3e-3 * RANGE and error.max() < 0.03 * RANGE


def test_overlap_and_measures_are_written(registered):
    content = json.loads((registered / "out" / "registration.json").read_text())
    assert content["files"]["moving"] == str(registered / "moving.nii.gz")
    assert content["planted_measure"] == 0.25 and content["background"] == -2000
    assert content["grid"]["spacing"] == [2.0, 2.2, 1.8]
    assert set(content["dice"]) == {"500", "550"} and set(content["dice"]["500"]) == {"before", "affine", "after"}
    assert content["dice_after"] > 0.92 > content["dice_before"] + 0.3
    assert content["dice_affine"] == pytest.approx(content["dice_before"])  # the planted affine stage is the identity
    for name in content["written"].values():
        assert (registered / "out" / name).is_file()


def test_label_dice_by_hand():
    moved, fixed = np.array([0, 1, 1, 2, 3]), np.array([1, 1, 0, 2, 4])
    assert label_dice(moved, fixed) == {1: 0.5, 2: 1.0, 4: 0.0}


def test_a_worse_match_is_said():
    """By the loss of the last stage; the loss of noise rises a little."""
    assert worse_than_before({}) is None
    assert worse_than_before({"registration_before": 0.5, "registration_after": None}) is None
    assert worse_than_before({"registration_before": 0.5, "registration_after": 0.505}) is None
    assert "registration_before 0.5000, registration_after 0.6000" in worse_than_before(
        {"registration_before": 0.5, "registration_after": 0.6}
    )
    stages = {"registration_before": 0.5, "registration_after": 0.6, "registration_refined": 0.4}
    assert worse_than_before(stages) is None
    assert "registration_refined 0.6000" in worse_than_before(stages | {"registration_refined": 0.6})


def test_an_earlier_registration_is_moved_away(registered, tmp_path):
    names = {name: str(registered / f"{name}.nii.gz") for name in ("moving", "fixed")}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()
    for label in ({"moving_label": str(registered / "moving_label.nii.gz")}, {}):
        register(names | label, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out" / "earlier" / "1").iterdir()} == {
        *("displacement_field.nii.gz", "warped.nii.gz", "warped_label.nii.gz", "registration.json")
    }
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("displacement_field.nii.gz", "warped.nii.gz", "registration.json", "notes.txt", "earlier")
    }
    with pytest.raises(ValueError, match=r"warped.nii.gz is an input file and would be an output file too"):
        register(names | {"moving": str(tmp_path / "out" / "warped.nii.gz")}, tmp_path / "out")
    assert (tmp_path / "out" / "warped.nii.gz").is_file()


def test_label_maps_are_warped_as_the_integers_of_the_file(tmp_path):
    """2^24 and 2^24 + 1 are one number in float32; 2^31 + 1 is no int32."""
    for ids, expected in (((0, 1), np.int16), ((2**24, 2**24 + 1), np.int32), ((2**31, 2**31 + 1), np.int64)):
        values = np.array(ids, dtype=np.int64)[np.indices((4, 5, 6)).sum(axis=0) % 2]
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4), dtype=np.int64), tmp_path / "label.nii.gz")
        label, affine = read_label(str(tmp_path / "label.nii.gz"))
        still = np.zeros((3, 4, 5, 6), dtype=np.float32)
        warped = pull_image(label, affine, still, np.eye(4), 0, nearest=True)
        assert label.dtype == warped.dtype == expected
        np.testing.assert_array_equal(warped, values)
        assert label_dice(warped, values) == {value: 1.0 for value in ids if value}


def test_a_sheared_fixed_image_is_refused_and_a_sheared_moving_one_is_not(registered, tmp_path):
    """ITK and 3D Slicer have no sheared grid, on which the field would lie."""
    for side, affine in (("moving", MOVING), ("fixed", FIXED)):
        sheared = affine.copy()
        sheared[:3, 2] += 0.3 * sheared[:3, 0]
        write_volume(tmp_path / f"{side}.nii.gz", read(registered / f"{side}.nii.gz"), sheared, allow_shear=True)
    names = {side: str(registered / f"{side}.nii.gz") for side in ("moving", "fixed")}
    register(names | {"moving": str(tmp_path / "moving.nii.gz")}, tmp_path / "out")
    with pytest.raises(ValueError, match=r"fixed\.nii\.gz: a sheared voxel grid"):
        register(names | {"fixed": str(tmp_path / "fixed.nii.gz")}, tmp_path / "refused")


def test_what_could_not_be_written_is_refused_before_it_is_computed(registered, tmp_path):
    sheared = FIXED.copy()
    sheared[:3, 2] += 0.3 * sheared[:3, 0]
    write_volume(tmp_path / "fixed.nii.gz", read(registered / "fixed.nii.gz"), sheared, allow_shear=True)
    names = {"moving": str(registered / "moving.nii.gz"), "fixed": str(tmp_path / "fixed.nii.gz")}
    pair = RegistrationPair(**names, transform=PREPROCESSING)
    engine = Engine(lambda engine, batch: pytest.fail("the pair is registered"))
    engine.data_loader = DataLoader(pair)
    RegistrationFiles(str(tmp_path / "out"), None).attach(engine)
    with pytest.raises(ValueError, match=r"fixed\.nii\.gz: a sheared voxel grid"):
        engine.run(engine.data_loader)


def test_a_fixed_label_map_of_background_alone_is_named(registered, tmp_path, caplog):
    write_volume(tmp_path / "empty.nii.gz", np.zeros(FIXED_SHAPE, np.int16), FIXED)
    names = {name: str(registered / f"{name}.nii.gz") for name in ("moving", "fixed", "moving_label")}
    register(names | {"fixed_label": str(tmp_path / "empty.nii.gz")}, tmp_path / "out")
    assert "empty.nii.gz: every voxel is background, so there is no Dice" in caplog.text
    assert read_json(tmp_path / "out" / "registration.json")["dice"] == {}
