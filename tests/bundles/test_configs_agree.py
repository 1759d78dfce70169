# SPDX-License-Identifier: Apache-2.0
"""Configs that must say the same: three segmentation bundles, overlays of all bundles, inference and training."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runs import ROOT

from custom.files import read_json

BUNDLES = ROOT / "bundles"
EVERY = sorted(path.name for path in BUNDLES.iterdir())
DOWNSTREAM = [name for name in EVERY if name != "gvsl_pretrain"]
CONFIGS = sorted(path for path in BUNDLES.rglob("configs/**/*.json") if path.name != "metadata.json")

DATA = {"bundle_root", "cohort", "dataset_dir", "labels"}
MAY_DIFFER = {  # from gvsl_seg_heart; an entry covers what lies below it
    ("gvsl_seg_coronary", "train.json"): DATA
    | {"shipped_backbone", "pretrained_weights", "accept_mismatch"}  # which has another spacing
    | {"task", "background_values", "spacing", "loss#include_background"}
    | {"train#random_transform#transforms#0", "train#handlers#LossFigure#metrics"}
    | {"validate#additional_metrics", "validate#evaluator#additional_metrics"},
    ("gvsl_seg_coronary", "inference.json"): DATA | {"spacing"},
    ("gvsl_seg_coronary", "evaluate.json"): {"accept_mismatch", "validate#handlers#SegmentationReport#centre_lines"},
    ("gvsl_seg_coronary", "paper.json"): set(),
    ("gvsl_seg_brain", "train.json"): DATA
    | {"task", "background_values", "spacing", "patch_size", "intensity", "pretrained_parts"}
    | {"loss#weight", "head_learning_rate", "max_epochs", "train#random_transform"},
    ("gvsl_seg_brain", "inference.json"): DATA | {"spacing", "patch_size", "intensity"},
    ("gvsl_seg_brain", "evaluate.json"): {"gray_scale"},
    ("gvsl_seg_brain", "paper.json"): {"head_learning_rate", "pretrained_parts"},
}
EQUAL_DOWNSTREAM = [  # the blocks of train.json that do not depend on the task
    *("imports", "output_dir", "seed", "resume", "figures", "device", "amp", "deterministic", "rank", "world_size"),
    *("num_workers", "cache_dir", "overflow_dir", "pretrained_weights", "frozen", "spacing", "channels", "backbone"),
    *("expects",),
    *("loaded_network", "network", "intensity", "optimizer", "samples_per_epoch", "lr_scheduler", "initialize", "run"),
    *("train#dataset", "train#sampler", "train#dataloader", "train#inferer", "train#trainer"),
    *("validate#dataset", "validate#sampler", "validate#dataloader", "validate#handlers", "validate#evaluator"),
]
FOR_LABELS = ("label_keys", "allow_missing_keys")
OWN_OF_INFERENCE = {"imports", "output_dir", "accept_mismatch", "data", "network_def", "network", "initialize", "run"}
OWN_OF_INFERENCE |= {"labels", "expects"}


def config(bundle: str, name: str) -> dict[str, Any]:
    return read_json(BUNDLES / bundle / "configs" / name)


def value_at(content: Any, key: str) -> Any:
    for part in key.split("#"):
        content = content[part]
    return content


def differences(first: Any, second: Any, key: str = "") -> Iterator[str]:
    """The keys "a#b" at which two JSON values differ; a component in a list goes by its class, else by its index."""
    if isinstance(first, dict) and isinstance(second, dict) and first.get("_target_") == second.get("_target_"):
        pairs = [(name, first.get(name, ...), second.get(name, ...)) for name in first | second]
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        pairs = [(_name(*both, index), *both) for index, both in enumerate(zip(first, second, strict=True))]
    else:
        yield from [] if first == second else [key.lstrip("#")]
        return
    for name, one, other in pairs:
        yield from differences(one, other, f"{key}#{name}")


def _name(first: Any, second: Any, index: int) -> str:
    targets = {entry.get("_target_") for entry in (first, second) if isinstance(entry, dict)}
    target = targets.pop() if len(targets) == 1 else None
    return target.rpartition(".")[2] if target else str(index)


@pytest.mark.parametrize(("bundle", "name"), MAY_DIFFER)
def test_segmentation_bundles_differ_where_named(bundle: str, name: str) -> None:
    found = set(differences(config("gvsl_seg_heart", name), config(bundle, name)))
    named = {key: [entry for entry in MAY_DIFFER[bundle, name] if f"{key}#".startswith(f"{entry}#")] for key in found}
    assert not [key for key, entries in named.items() if not entries]
    assert {entry for entries in named.values() for entry in entries} == MAY_DIFFER[bundle, name]


@pytest.mark.parametrize("name", ["linear.json", "scratch.json", "multi_gpu_train.json", "logging.conf"])
def test_files_are_equal_in_all_downstream_bundles(name: str) -> None:
    bundles = EVERY if name == "logging.conf" else DOWNSTREAM
    assert len({(BUNDLES / bundle / "configs" / name).read_bytes() for bundle in bundles}) == 1


def test_classification_differs_from_segmentation_in_its_task_alone() -> None:
    heart, covid = (config(bundle, "train.json") for bundle in ("gvsl_seg_heart", "gvsl_covid_cls"))
    assert [key for key in EQUAL_DOWNSTREAM if value_at(heart, key) != value_at(covid, key)] == []


@pytest.mark.parametrize("bundle", EVERY)
def test_inference_says_what_training_says(bundle: str) -> None:
    train, inference = config(bundle, "train.json"), config(bundle, "inference.json")
    common = (train.keys() & inference.keys()) - OWN_OF_INFERENCE
    assert len(common) >= (10 if bundle == "gvsl_pretrain" else 13)
    assert [name for name in common if train[name] != inference[name]] == []
    assert bundle == "gvsl_pretrain" or inference["labels"] == train["labels"]["default"]
    assert inference["expects"]["preprocessing"] == train["expects"]["preprocessing"]
    assert inference["expects"]["components"].items() <= train["expects"]["components"].items()
    trained = {name: value for name, value in train["network_def"].items() if name != "frozen"}
    assert inference["network_def"] == trained
    validating = config(
        "gvsl_seg_heart" if bundle == "gvsl_pretrain" else bundle, "train.json"
    )  # it validates on crops
    assert inference["inferer"] == validating["validate"]["inferer"]


@pytest.mark.parametrize("bundle", EVERY)
def test_inference_prepares_its_input_as_validation_does(bundle: str) -> None:
    """The same steps in the same order, but for those of labels, of volumes in memory and, in pre-training, crops."""
    train, inference = config(bundle, "train.json"), config(bundle, "inference.json")
    steps = [
        train[step[1:]] if isinstance(step, str) else step for step in train["validate"]["preprocessing"]["transforms"]
    ]
    ours = [inference[step[1:]] if isinstance(step, str) else step for step in inference["preprocessing"]["transforms"]]
    ours = [step for step in ours if step["_target_"] != "EnsureChannelFirstd"]
    of_labels = {"gvsl_covid_cls": ["EncodeClassd"], "gvsl_pretrain": ["SpatialPadd", "CenterSpatialCropd"]}
    left_out = of_labels.get(bundle, ["SameGridd", "EncodeLabelsd"])
    steps = [step for step in steps if step["_target_"].rpartition(".")[2] not in left_out]
    assert [step["_target_"] for step in ours] == [step["_target_"] for step in steps]
    of_images = {"keys": "image", "mode": "bilinear"}
    for step, same in zip(ours, steps, strict=True):
        if step.get("keys") == "image":
            same = {name: of_images.get(name, value) for name, value in same.items()}
            same = {name: value for name, value in same.items() if name in step or name not in FOR_LABELS}
        assert step == same


def test_what_weights_expect_stands_once_in_a_file() -> None:
    for path in CONFIGS:
        complete = "bundle_root" in (content := read_json(path))
        assert path.read_text().count('"RAS"') == complete == ("expects" in content), path


def test_expressions_are_short() -> None:
    for path in CONFIGS:
        expressions = re.findall(r'"(\$(?:[^"\\]|\\.)*)"', path.read_text())
        assert [text for text in expressions if len(text) > 80] == [], path


def test_the_views_of_a_volume_are_made_in_one_place() -> None:
    folder = BUNDLES / "gvsl_pretrain" / "configs" / "pretext"
    methods = [read_json(folder / f"{name}.json") for name in ("byol", "simclr", "simsiam")]
    assert len({str(method["train#pair_transform#transforms"]) for method in methods}) == 1
    assert methods[0]["train#pair_transform#transforms"]["_target_"] == "custom.transforms.two_views"


@pytest.mark.parametrize("path", [path for path in CONFIGS if "bundle_root" in read_json(path)], ids=str)
def test_every_intensity_step_is_checked(path: Path) -> None:
    content = read_json(path)
    pair = {"keys": ["moving", "fixed"]} if path.stem == "register" else {}
    component = {"_target_": "custom.transforms.CheckedIntensityd", "intensity": "@intensity"}
    assert content["checked_intensity"] == component | pair
    text = path.read_text()
    assert text.count('"@intensity"') == 1 + ("gray_scale" in content)  # the grey values of pictures follow it too
    assert text.count('"@checked_intensity"') == (2 if path.stem == "train" else 1)
