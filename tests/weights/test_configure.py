# SPDX-License-Identifier: Apache-2.0
"""Keys of a config that a user has not set take the values of the weights; what a user has set stays."""

from __future__ import annotations

import copy
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

UNET = {"_target_": "custom.networks.UNet3D", "in_channels": 1, "channels": "@channels"}
WINDOW = {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -1024, "a_max": 1024, "b_min": 0, "b_max": 1}
PERCENTILES = {"_target_": "ScaleIntensityRangePercentilesd", "keys": ["moving", "fixed"], "lower": 1, "upper": 99}
KEYPOINTS = {"_target_": "custom.networks.KeypointAffineHead", "in_channels": "$@channels[-1]", "spacing": "@spacing"}
AFFINE = {"_target_": "custom.networks.AffineHead", "in_channels": 16, "channels": 8}
HEAD = {"_target_": "custom.networks.ZMatchingHead"}
CONFIG = {
    "model_dir": "models",
    "accept_mismatch": [],
    "labels": {"heart": 1},
    "classes": "$len(@labels) + 1",
    "spacing": [3.5, 3.5, 3.5],
    "orientation": "RAS",
    "patch_size": [48, 48, 48],
    "intensity": WINDOW,
    "channels": [4, 8],
    "backbone": UNET,
    "network_def": {"_target_": "custom.networks.SegmentationNetwork", "backbone": "@backbone", "classes": "@classes"},
    "affine_head": KEYPOINTS,
    "pretext_network": {
        "_target_": "custom.pretext.GVSLPretext",
        "matching_head": HEAD | {"affine_head": "@affine_head"},
    },
    "loaded": {
        "_target_": "builtins.dict",
        "weights": "@model_dir",
        "labels": "@labels",
        "components": "@expects#components",
        "preprocessing": "@expects#preprocessing",
        "accept_mismatch": "@accept_mismatch",
    },
    "expects": {
        "components": {"network": "network_def", "pretext": "pretext_network", "intensity": "intensity"},
        "preprocessing": {"spacing": "@spacing", "orientation": "@orientation", "patch_size": "@patch_size"},
    },
    "configure": {"_target_": "custom.weights.configure_by_weights", "loader": "loaded"},
}
TRAINED = {
    "pretext_task": "gvsl",
    "iterations": 7,
    "trained_on": "files",
    "labels": {"b": 7, "a": 3},
    "network": {
        "_target_": "scripts.networks.SegmentationNetwork",
        "backbone": UNET | {"channels": [8, 16]},
        "classes": 3,
        "kernel_size": 3,
        "frozen": True,
    },
    "pretext": {"_target_": "custom.pretext.GVSLPretext", "matching_head": HEAD | {"affine_head": AFFINE}},
    "intensity": PERCENTILES,
    "preprocessing": {"spacing": [1.0, 1.0, 1.0], "orientation": "LPS", "patch_size": [16, 16, 16]},
}
DECIDED = {
    "labels": {"b": 7, "a": 3},
    "spacing": [1.0, 1.0, 1.0],
    "orientation": "LPS",
    "patch_size": [16, 16, 16],
    "channels": [8, 16],
    "affine_head": AFFINE,
    "intensity": PERCENTILES | {"keys": "image"},  # the keys are those of the config
}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with one config, and weights."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "models").mkdir()
    content = CONFIG | {"bundle_root": str(tmp_path), "model_dir": str(tmp_path / "models")}
    (tmp_path / "configs" / "inference.json").write_text(json.dumps(content))
    describe(tmp_path, TRAINED)
    return tmp_path


def describe(bundle: Path, description: dict[str, Any]) -> None:
    (bundle / "models" / "model.json").write_text(json.dumps(description))


def configured(bundle: Path, **overrides: Any) -> ConfigParser:
    """The config of the bundle after `configure_by_weights`."""
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.json"))
    parser.update(overrides)
    parser.get_parsed_content("configure")
    return parser


def test_all_that_describes_the_weights_is_taken_and_logged(bundle, caplog):
    with caplog.at_level(logging.INFO, "custom.weights.configure"):
        parser = configured(bundle)
    assert {name: parser[name] for name in DECIDED} == DECIDED
    assert list(parser["labels"]) == ["b", "a"] and parser.get_parsed_content("classes") == 3
    assert parser["network_def"] == CONFIG["network_def"] | {
        "kernel_size": 3
    }  # whether it is frozen is the run's choice
    assert parser["backbone"] == UNET
    first, second = caplog.messages
    assert first == f"weights: {bundle / 'models' / 'model.pt'}, gvsl, 7 iterations on files of a user"
    assert second.startswith("set by these weights: ") and all(name in second for name in DECIDED)


def test_weights_of_the_config_change_nothing(bundle, caplog):
    describe(bundle, {"preprocessing": {"spacing": [3.5] * 3}, "labels": {"heart": 1}, "intensity": WINDOW})
    with caplog.at_level(logging.INFO, "custom.weights.configure"):
        parser = configured(bundle)
    assert all(parser[name] == CONFIG[name] for name in DECIDED) and len(caplog.messages) == 1


@pytest.mark.parametrize("name", DECIDED)
def test_what_a_user_sets_stays(bundle, name):
    own = {"labels": {"x": 4}, "spacing": [2, 2, 2], "orientation": "LAS", "patch_size": [8, 8, 8], "channels": [4, 4]}
    own |= {"affine_head": AFFINE | {"channels": 2}, "intensity": WINDOW | {"a_min": 0}}
    parser = configured(bundle, **{name: own[name]})
    assert parser[name] == own[name]
    assert all(parser[other] == value for other, value in DECIDED.items() if other != name)


@pytest.mark.parametrize("flag", ["--intensity", "--intensity#a_min=-1024", "--intensity::a_min"])
def test_a_flag_counts_though_its_value_is_that_of_the_file(bundle, flag, monkeypatch):
    monkeypatch.setattr("custom.running.overrides.is_command", lambda: True)
    monkeypatch.setattr("sys.argv", ["monai.bundle", "run", "--intensities", "1", flag, "x"])
    parser = configured(bundle)
    assert parser["intensity"] == WINDOW and parser["spacing"] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", ["spacing", "orientation", "intensity"])
def test_what_may_differ_stays(bundle, name):
    parser = configured(bundle, accept_mismatch=[name])
    assert parser[name] == CONFIG[name]
    assert all(parser[other] == value for other, value in DECIDED.items() if other != name)


def test_no_weights_and_a_block_that_loads_none_change_nothing(bundle):
    assert configured(bundle, model_dir=None)["spacing"] == CONFIG["spacing"]
    assert configured(bundle, loaded={"_target_": "builtins.dict"})["spacing"] == CONFIG["spacing"]


def test_another_kind_of_network_is_left_to_the_comparison(bundle):
    """A classifier is no segmentation network with other arguments."""
    changed = copy.deepcopy(TRAINED)
    changed["network"]["_target_"] = "custom.networks.ClassificationNetwork"
    describe(bundle, changed)
    parser = configured(bundle)
    assert parser["network_def"] == CONFIG["network_def"] and parser["channels"] == [4, 8]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("intensity", "_target_"), "os.system", r"intensity#_target_ is 'os.system', expected a network"),
        (("intensity", "_target_"), "SaveImaged", "intensity#_target_ is 'SaveImaged'"),
        (("intensity", "_target_"), "custom.transforms.crop.np.f2py.subprocess.Popen", "intensity#_target_ is"),
        (("intensity", "_target_"), "custom.pretext.deep_cluster.logging.FileHandler", "intensity#_target_ is"),
        (("intensity", "_target_"), "custom.layers.affine.torch.ctypes.CDLL", "intensity#_target_ is"),
        (("intensity", "_target_"), "custom.transforms.labels.Mapping", "intensity#_target_ is"),
        (("intensity", "lower"), "$__import__('os').system('touch ran')", "intensity#lower is .*no expression"),
        (("intensity", "_mode_"), "callable", r"intensity has \['_mode_'\]"),
        (("labels", "b"), "@bundle_root", "labels#b is '@bundle_root'"),
        (("preprocessing", "spacing"), "$print(1)", "spacing is"),
        (("preprocessing", "spacing"), [1, 0, 1], "spacing is .*, expected three numbers above 0"),
        (("preprocessing",), [1], "preprocessing in the description is"),
        (("pretext", "matching_head", "affine_head", "_target_"), "custom.files.write_text", "affine_head#_target_ is"),
    ],
)
def test_a_description_that_would_run_something_is_refused(bundle, path, value, words, monkeypatch):
    monkeypatch.chdir(bundle)
    changed = copy.deepcopy(TRAINED)
    part = changed
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    describe(bundle, changed)
    with pytest.raises(RuntimeError) as error:
        configured(bundle)
    assert re.search(f"model.json: {words}", str(error.value.__cause__)) and not (bundle / "ran").exists()


def test_what_a_network_computes_for_its_loss_is_set_where_the_config_has_it(bundle):
    describe(bundle, TRAINED | {"pretext": TRAINED["pretext"] | {"places": 9, "affine_warped": True}})
    assert configured(bundle)["pretext_network"] == CONFIG["pretext_network"]
    training = CONFIG["pretext_network"] | {"places": "@places"}
    (bundle / "configs" / "inference.json").write_text(
        json.dumps(CONFIG | {"bundle_root": str(bundle), "places": 5, "pretext_network": training})
    )
    parser = configured(bundle, model_dir=str(bundle / "models"))
    assert parser["places"] == 9 and parser["pretext_network"] == training


def test_missing_weights_are_named(bundle):
    with pytest.raises(RuntimeError) as error:
        configured(bundle, model_dir=str(bundle / "nowhere"))
    assert isinstance(error.value.__cause__, FileNotFoundError) and "nowhere" in str(error.value.__cause__)
