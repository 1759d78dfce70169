# SPDX-License-Identifier: Apache-2.0
"""Every config at full size has the values of `paper_values`, which names every value that an overlay changes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from monai.bundle import ConfigParser
from paper_values import VALUES
from runs import ROOT

from custom.files import read_json
from custom.transforms import (
    RandBezierIntensity,
    RandInPainting,
    RandLocalShuffle,
    RandOutPainting,
    RandSpatialTransform,
    two_views,
)

BUNDLES = ROOT / "bundles"
COMPLETE = ("train.json", "inference.json", "register.json", "metadata.json")
CHECKED_BY_RUNNING = ("evaluate.json", "multi_gpu_train.json")
NAMES = ("_target_", "keys", "names", "output_dir", "pretext_task", "cache_dir", "root", "dataset_dir")
FILES = [(bundle, name) for bundle, files in VALUES.items() for name in files]


def merged(bundle: str, name: str) -> ConfigParser:
    """train.json with an overlay; a pretext task at the paper's size."""
    names = ["train.json", *(["paper.json"] if name.startswith("pretext/") else []), name]
    parser = ConfigParser()
    parser.read_config([str(BUNDLES / bundle / "configs" / file) for file in dict.fromkeys(names)])
    return parser


def value_at(parser: ConfigParser, key: str) -> tuple[Any, str]:
    """The value of a key "a#b", and the key, where "-1" stands for the last entry of a list."""
    parts = key.split("#")
    for index, part in enumerate(parts):
        if part == "-1":
            parts[index] = str(len(parser["#".join(parts[:index])]) - 1)
    return parser["#".join(parts)], "#".join(parts)


@pytest.mark.parametrize(("bundle", "name"), FILES)
def test_values_are_those_of_the_table(bundle: str, name: str) -> None:
    parser, different = merged(bundle, name), []
    for key, expected in VALUES[bundle][name].items():
        value, place = value_at(parser, key)
        value = value.replace("::", "#") if isinstance(value, str) else value  # MONAI's own spelling
        if not isinstance(expected, str) and isinstance(value, str) and value.startswith(("@", "$")):
            value = parser.get_parsed_content(place)
        if value != (pytest.approx(expected) if isinstance(expected, float) else expected):
            different.append(f"{key} is {value!r}, expected {expected!r}")
    assert different == []


def changed(value: Any, key: str) -> Iterator[str]:
    """The keys of what an overlay sets, but for references, paths and the names of volumes."""
    if isinstance(value, dict) and value:
        for name, entry in value.items():
            yield from changed(entry, f"{key}#{name}") if name not in NAMES else ()
    elif isinstance(value, list) and any(isinstance(entry, (dict, str)) for entry in value):
        for index, entry in enumerate(value):
            yield from changed(entry, f"{key}#{index}")
    elif not (isinstance(value, str) and value.startswith(("@", "$@bundle_root"))):
        yield key


@pytest.mark.parametrize("bundle", VALUES)
def test_the_table_names_every_overlay_and_every_value_that_it_changes(bundle: str) -> None:
    configs = BUNDLES / bundle / "configs"
    overlays = {str(path.relative_to(configs)) for path in configs.rglob("*.json")} - {
        *COMPLETE,
        "multi_gpu_train.json",
        "deploy.json",
        "propagate.json",
    }
    assert overlays == VALUES[bundle].keys() - {"train.json"}
    for name in overlays - set(CHECKED_BY_RUNNING):
        named = VALUES[bundle][name]
        for top, value in read_json(configs / name).items():
            if top in NAMES:
                continue
            key = f"{top[1:]}#-1" if top.startswith("+") else top
            content = value[0] if top.startswith("+") else value  # the one handler that is added
            unnamed = [k for k in changed(content, key) if not any(f"{k}#".startswith(f"{n}#") for n in named)]
            assert unnamed == [], name


@pytest.mark.parametrize("bundle", [name for name in VALUES if name != "gvsl_pretrain"])
def test_the_test_split_is_for_evaluation_alone(bundle: str) -> None:
    configs = BUNDLES / bundle / "configs"
    using = {path.name for path in configs.glob("*.json") if "data['test']" in path.read_text()}
    assert using == {"evaluate.json"} and (configs / "train.json").read_text().count("@data[") == 2


DEFAULTS = [  # published values: those of the authors' code, which paper.json also states, and of Models Genesis
    (
        RandSpatialTransform,
        {"rotation_degrees": 20.0, "scale": (0.75, 1.25), "translation": 0.1, "shear_degrees": 10.0},
    ),
    (RandSpatialTransform, {"elastic_rms": 2.0, "elastic_smoothing": 12.0}),
    (RandLocalShuffle, {"box_fraction": 1 / 20, "prob": 0.8, "density": 0.515}),
    (RandBezierIntensity, {"prob": 0.9, "invert_prob": 0.0}),
    (RandInPainting, {"max_boxes": 30, "box_fraction": (1 / 10, 1 / 5), "next_box_prob": 0.95, "prob": 0.95}),
    (RandOutPainting, {"max_boxes": 5, "box_fraction": (3 / 7, 4 / 7), "next_box_prob": 0.95}),
    (two_views, {"curve_prob": 0.8, "blur_prob": 0.5, "blur_sigma": (0.1, 1.0)}),
]


@pytest.mark.parametrize(("component", "expected"), DEFAULTS)
def test_defaults_are_the_published_values(component: Any, expected: dict[str, Any]) -> None:
    parameters = inspect.signature(component).parameters
    assert {name: parameters[name].default for name in expected} == expected
