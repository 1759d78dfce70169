# SPDX-License-Identifier: Apache-2.0
"""register.json, run as a bundle on two oblique files of different formats, with random weights."""

import json
from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.properties import MetaProperties
from monai.data import MetaTensor
from oblique import itk_read_field, itk_resample, make_affine, moving_value, points

from custom.layers import AuthorsConventions
from custom.networks import AffineHead
from custom.volumes import write_volume
from custom.weights import save_pretext

CONFIG = Path(__file__).parents[2] / "bundles" / "gvsl_pretrain" / "configs" / "register.json"
CHANNELS = [4, 8, 8]


@pytest.fixture
def overrides(tmp_path):
    """Two volumes on oblique grids, labels, and random weights whose displacement is a few millimetres."""
    for name, shape, spacing, degrees, centre, flips in (
        ("moving", (60, 48, 24), (0.9, 1.3, 2.5), (12, -20, 25), (30, -40, 60), (-1, 1, 1)),
        ("fixed", (36, 24, 50), (1.3, 2.3, 0.9), (-100, 10, 40), (-15, 25, 10), (1, -1, 1)),
    ):
        affine = make_affine(shape, spacing, degrees, centre, flips)
        centre = np.subtract((30, -40, 60), centre).reshape(3, 1, 1, 1)
        value = moving_value(points(affine, shape) + centre)
        write_volume(tmp_path / f"{name}.nii.gz", value.astype(np.int16), affine)
        write_volume(tmp_path / f"{name}_label.nii.gz", 205 * (value > 200).astype(np.int16), affine)
    itk.imwrite(itk.imread(str(tmp_path / "moving.nii.gz")), str(tmp_path / "moving.nrrd"))
    names = {"channels": CHANNELS, "spacing": [3.0, 3.0, 3.0], "device": "$torch.device('cpu')"}
    config = ConfigParser.load_config_file(CONFIG)
    parser = ConfigParser(config | names)
    torch.manual_seed(0)
    network = parser.get_parsed_content("pretext_network")
    for part in (network.matching_head.affine_head, network.matching_head.deformable_head):
        for layer in part.children():
            if isinstance(layer, (torch.nn.Linear, torch.nn.Conv3d)):
                torch.nn.init.normal_(layer.weight, std=0.05)
    description = {"preprocessing": {"spacing": [3.0, 3.0, 3.0], "orientation": "RAS"}}
    save_pretext(network, tmp_path / "models", {"pretext_task": "gvsl", "iterations": 0} | description)
    return names | {
        "moving": "moving.nrrd",
        "fixed": "fixed.nii.gz",
        "moving_label": "moving_label.nii.gz",
        "fixed_label": "fixed_label.nii.gz",
        "dataset_dir": str(tmp_path),
        "model_dir": str(tmp_path / "models"),
        "output_dir": str(tmp_path / "out"),
    }


def workflow(**overrides):
    return ConfigWorkflow(str(CONFIG), workflow_type="infer", logging_file=False, **overrides)


def test_properties_are_complete(tmp_path):
    metadata = {name: {} for name in MetaProperties}
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))  # the bundle's own is judged in tests/bundles
    run = workflow(meta_file=str(tmp_path / "metadata.json"))
    run.initialize()
    assert run.check_properties() == []


def test_network_and_preprocessing_are_those_of_training():
    train, register = (
        ConfigParser.load_config_file(CONFIG.with_name(name)) for name in ("train.json", "register.json")
    )
    for name in ("affine_warped", "places"):  # of the loss alone
        register["pretext_network"][name] = train["pretext_network"][name]
    for name in (
        "channels",
        "conventions",
        "network_def",
        "matching_head",
        "restoration_head",
        "pretext_network",
        "spacing",
    ):
        assert register[name] == train[name], name
    assert register["intensity"] == train["intensity"]


def test_the_weights_set_heads_intensities_and_spacing(tmp_path):
    """MR at 2 mm with the affine head of the paper, and no word of it on the command line."""
    changed = {
        "channels": CHANNELS,
        "spacing": [2.0, 2.0, 2.0],
        "intensity": ConfigParser.load_config_file(CONFIG.with_name("mr.json"))["intensity"],
        "affine_head": ConfigParser.load_config_file(CONFIG.with_name("paper.json"))["affine_head"],
        "conventions": {"_target_": "custom.layers.AuthorsConventions"},
        "described": {"_target_": "custom.weights.describe", "components": "@expects#components"}
        | {"preprocessing": "@expects#preprocessing"},
    }
    parser = ConfigParser(ConfigParser.load_config_file(CONFIG) | changed)
    trained = parser.get_parsed_content("pretext_network")
    save_pretext(trained, tmp_path / "models", {"pretext_task": "gvsl"} | parser.get_parsed_content("described"))
    run = workflow(model_dir=str(tmp_path / "models"), output_dir=str(tmp_path / "out"), device="cpu")
    run.initialize()
    network = run.parser.get_parsed_content("network")
    assert all(torch.equal(tensor, trained.state_dict()[name]) for name, tensor in network.state_dict().items())
    assert type(network.matching_head.affine_head) is AffineHead
    assert type(network.matching_head.conventions) is AuthorsConventions
    item = {name: MetaTensor(torch.arange(500.0).reshape(1, 5, 10, 10)) for name in ("moving", "fixed")}
    scaled = run.parser.get_parsed_content("checked_intensity")(item)
    assert all(scaled[name].max() == 1 and scaled[name].median() == pytest.approx(0.5, abs=0.01) for name in item)
    assert run.parser.get_parsed_content("spacing") == [2.0, 2.0, 2.0]


def test_the_overlay_for_mr_registers_with_the_shipped_weights(tmp_path, caplog):
    """A volume of noise to itself, with weights for CT: nothing can be gained, and the run says so."""
    array = np.where(np.indices((16, 16, 16))[0] > 7, 100, -100) + np.random.default_rng(0).integers(-20, 20, (16,) * 3)
    write_volume(tmp_path / "a.nii.gz", array.astype(np.int16), np.diag([2.0, 2, 2, 1]))
    chosen = {"moving": str(tmp_path / "a.nii.gz"), "fixed": str(tmp_path / "a.nii.gz")}
    chosen |= {"output_dir": str(tmp_path / "out"), "model_dir": str(CONFIG.parents[1] / "models")}
    run = ConfigWorkflow(
        [str(CONFIG), str(CONFIG.with_name("mr.json"))],
        workflow_type="infer",
        logging_file=False,
        accept_mismatch=["spacing", "intensity"],
        **chosen,
    )
    run.initialize()
    with caplog.at_level("WARNING", "custom.registration.files"):
        run.run()
    content = json.loads((tmp_path / "out" / "registration.json").read_text())
    assert content["warning"] in caplog.text and "match worse" in content["warning"]
    assert content["grid"]["spacing"] == [1, 1, 1] and content["registration_before"] < 1e-3
    assert next(iter(content)) == "weights" and content["weights"]["trained_on"] == "files"


def test_a_pair_in_and_files_out_that_itk_reproduces(overrides, tmp_path):
    run = workflow(**overrides)
    run.initialize()
    run.run()
    run.finalize()
    out = tmp_path / "out"
    warped = nibabel.load(out / "warped.nii.gz")
    assert warped.get_data_dtype() == np.float32
    values = np.asarray(warped.dataobj)
    minimum = np.asarray(nibabel.load(tmp_path / "moving.nii.gz").dataobj).min()
    field = itk_read_field(out / "displacement_field.nii.gz")
    judged = itk_resample(tmp_path / "moving.nii.gz", field, tmp_path / "fixed.nii.gz", float(minimum))
    assert np.abs(values - judged).max() < 1e-4 * np.ptp(judged)
    assert (values > minimum).mean() > 0.3
    label = np.asarray(nibabel.load(out / "warped_label.nii.gz").dataobj)
    assert set(np.unique(label)) == {0, 205}
    content = json.loads((out / "registration.json").read_text())
    for stage in ("before", "affine", "after"):
        assert 0 <= content[f"registration_{stage}"] <= 1 and 0 <= content["dice"]["205"][stage] <= 1
    assert content["folded_share"] >= 0 and content["dice_before"] > 0.2
    assert abs(content["registration_after"] - content["registration_affine"]) > 0.01  # the weights do move things
    assert (out / "registration_0.png").is_file()
    assert content["weights"]["trained_on"] is None and "does not say what these weights" in content["notice"]


def test_refine_improves_what_the_network_gives_and_says_so(overrides, tmp_path, caplog, monkeypatch):
    pictures = []
    monkeypatch.setattr(
        "custom.handlers.registration_figures.save_figure", lambda figure, path: pictures.append(figure)
    )
    run = workflow(**overrides | {"refine": 5})
    run.initialize()
    with caplog.at_level("INFO", "custom.registration.files"):
        run.run()
    content = json.loads((tmp_path / "out" / "registration.json").read_text())
    assert content["registration_refined"] < content["registration_after"]
    assert content["folded_share_refined"] < 0.01 and content["refine_seconds"] > 0
    assert set(content["dice"]["205"]) == {"before", "affine", "after", "refined"}
    assert content["dice_refined"] > content["dice_after"]
    (picture,) = pictures
    before, refined = content["dice_before"], content["dice_refined"]
    assert picture.get_suptitle().startswith(f"moving registered to fixed: Dice {before:.2f} → {refined:.2f} (affine")
    assert [len(plot.collections) for plot in picture.axes[:3]] == [1, 2, 2]  # outlines of the one structure
    field = itk_read_field(tmp_path / "out" / "displacement_field.nii.gz")
    label = itk_resample(tmp_path / "moving_label.nii.gz", field, tmp_path / "fixed.nii.gz", 0.0)
    fixed = np.asarray(nibabel.load(tmp_path / "fixed_label.nii.gz").dataobj) == 205
    dice = 2 * ((label > 102) & fixed).sum() / ((label > 102).sum() + fixed.sum())
    assert dice == pytest.approx(content["dice_refined"], abs=0.03)  # the files are those of the refined displacement
    for name in ("registration_before", "registration_after", "registration_refined", "refine_seconds"):
        assert name in caplog.text


def test_without_refine_nothing_is_refined(overrides, tmp_path):
    run = workflow(**overrides)
    run.initialize()
    run.run()
    assert not [name for name in json.loads((tmp_path / "out" / "registration.json").read_text()) if "refine" in name]


def test_another_spacing_than_that_of_the_weights_is_refused_unless_accepted(overrides, tmp_path, caplog):
    overrides = overrides | {"spacing": [4.0, 4.0, 4.0]}
    run = workflow(**overrides)
    run.initialize()
    with pytest.raises((ValueError, RuntimeError)) as error:
        run.run()
    cause = error.value.__cause__ or error.value
    assert "spacing: the weights [3.0, 3.0, 3.0], the config [4.0, 4.0, 4.0]" in str(cause)
    assert str(tmp_path / "models") in str(cause) and not (tmp_path / "out").exists()
    run = workflow(**overrides | {"accept_mismatch": ["spacing"]})
    run.initialize()
    run.run()
    assert json.loads((tmp_path / "out" / "registration.json").read_text())["grid"]["spacing"] == [4, 4, 4]
    assert "is used although spacing: the weights [3.0, 3.0, 3.0], the config [4.0, 4.0, 4.0]" in caplog.text


def test_without_a_pair_it_says_what_is_missing(overrides):
    run = workflow(**overrides | {"moving": None})
    run.initialize()
    with pytest.raises(RuntimeError) as error:
        run.run()
    assert "moving is not given, expected the path of a volume, --moving FILE" in str(error.value.__cause__)
