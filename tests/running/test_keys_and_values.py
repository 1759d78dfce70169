# SPDX-License-Identifier: Apache-2.0
"""Mistyped keys and values of another kind are refused by name before a config builds anything."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from custom.files import read_json
from custom.running.keys import check_keys
from custom.running.values import SWITCHES, check_labels, check_values
from tools.file_checks import LAID_OVER

BUNDLES = Path(__file__).parents[2] / "bundles"
FOLDER = BUNDLES / "gvsl_pretrain" / "configs"
CONFIGS = [path for path in sorted(BUNDLES.rglob("configs/**/*.json")) if path.name != "metadata.json"]
COMPLETE = [path for path in CONFIGS if "bundle_root" in read_json(path)]


def name_of(path: Path) -> str:
    return path.relative_to(BUNDLES).as_posix()


def merged(*files: str, folder: Path = FOLDER, **overrides) -> dict:
    parser = ConfigParser()
    parser.read_config([str(folder / name) for name in files])
    parser.update(overrides)
    return parser.get()


@pytest.mark.parametrize(
    ("files", "typed", "meant"),
    [
        (["train.json"], "learnin_rate", "learning_rate"),
        (["train.json", "evaluate.json"], "model_dirr", "model_dir"),
        (["train.json", "mr.json"], "max_epoch", "max_epochs"),
        (["inference.json"], "datasetdir", "dataset_dir"),
        (["register.json"], "movin", "moving"),
    ],
)
def test_a_mistyped_key_is_refused_with_the_nearest(files, typed, meant):
    with pytest.raises(ValueError, match=f"'{typed}' is no key of this config, expected '{meant}'"):
        check_keys(merged(*files, **{typed: 1}), FOLDER)


def test_a_key_of_another_config_is_refused():
    with pytest.raises(ValueError, match="'max_epochs' is no key of this config"):
        check_keys(merged("inference.json", max_epochs=3), FOLDER)


def test_all_mistyped_keys_are_listed():
    with pytest.raises(ValueError, match="'resum'.*\n.*'spacin'"):
        check_keys(merged("train.json", resum=True, spacin=1), FOLDER)


def test_a_folder_without_configs_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path} holds no complete config"):
        check_keys(merged("train.json"), tmp_path)


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_the_keys_of_every_config_and_overlay_are_read(path):
    folder = next(parent for parent in path.parents if parent.name == "configs")
    bases = [] if path in COMPLETE else [LAID_OVER.get(path.name, "train.json")]
    check_keys(merged(*bases, str(path), folder=folder), folder)


def test_an_overlay_may_bring_its_own_keys():
    own = {"my_width": 8, "channels": "$[@my_width, 2 * @my_width]", "my_run": ["$print(1)"]}
    check_keys(merged("train.json", **own), FOLDER)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        *((name, value, "True or False") for name in SWITCHES for value in ("maybe", "false", 1)),
        *(("max_epochs", value, "a whole number of at least 1") for value in (1.5, 0, True, "3")),
        ("batch_size", 0, "a whole number of at least 1"),
        ("num_workers", -1, "a whole number of at least 0"),
        *(("learning_rate", value, "a number of at least 0") for value in ("fast", -0.1)),
        *(
            ("spacing", value, "three numbers above 0")
            for value in (3.5, [1, 1], [1, 1, 0], "1,1,1", [1, 1, float("nan")])
        ),
        *(("patch_size", value, "three whole numbers") for value in (64, [16, 16, 16.5])),
        ("channels", [16], "at least two whole numbers"),
        ("dataset_dir", 2024, "a path as text"),
        ("pretrained_weights", 3, "a path as text, such as ./NAME, or None"),
    ],
)
def test_a_value_of_another_kind_is_refused(name, value, expected):
    check = ConfigParser({name: value})
    with pytest.raises(ValueError, match=f"^{name} is .*, expected {expected}"):
        check_values(check)


def test_a_device_that_is_not_there_is_refused():
    absent = f"cuda:{torch.cuda.device_count() + 3}"
    for device, words in ((absent, "but this machine has"), ("gpu", "expected cpu, cuda"), (None, "expected cpu")):
        with pytest.raises(ValueError, match=f"^device is .*{words}"):
            check_values(ConfigParser({"device": device}))


@pytest.mark.parametrize("path", COMPLETE, ids=name_of)
def test_the_values_of_every_config_are_of_the_right_kind(path):
    check_values(ConfigParser(read_json(path) | {"bundle_root": str(path.parents[1])}))


@pytest.mark.parametrize(
    ("bundle", "labels", "expected"),
    [
        ("gvsl_pretrain", {"NAME": 1}, r"a list of whole numbers, such as \[1,2\]"),
        ("gvsl_pretrain", [1.5], "a list of whole numbers"),
        ("gvsl_seg_heart", [1, 2], "names with whole numbers, such as {'liver': 1}"),
        ("gvsl_seg_heart", {"liver": True}, "names with whole numbers"),
    ],
)
def test_labels_of_another_kind_are_refused(bundle, labels, expected):
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / bundle / "configs" / "train.json"))
    parser["labels"] = labels
    with pytest.raises(ValueError, match=f"labels is .* expected {expected}"):
        check_labels(parser)


@pytest.mark.parametrize(("bundle", "labels"), [("gvsl_pretrain", [1, 2]), ("gvsl_seg_heart", {"liver": 1})])
def test_labels_as_they_are_documented_are_taken(bundle, labels):
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / bundle / "configs" / "train.json"))
    check_labels(parser)  # read from the data set
    parser["labels"] = labels
    check_labels(parser)
