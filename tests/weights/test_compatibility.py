# SPDX-License-Identifier: Apache-2.0
"""Weights meet a config: what fits passes, each difference is named with both sides, some can be accepted."""

from __future__ import annotations

import copy
import logging
import re
from typing import Any

import pytest
from monai.bundle import ConfigParser

from custom.weights.compatibility import check_compatible, describe

EXPECTED = {
    "network": {"_target_": "custom.networks.UNet3D", "in_channels": 1, "channels": [4, 8]},
    "intensity": {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -1024, "b_max": 1.0, "clip": True},
    "preprocessing": {"spacing": [3.5, 3.5, 3.5], "orientation": "RAS"},
}
CHANGES = {
    "network": (("network", "channels"), [4, 16], r"network: the weights \{.*\[4\.0, 16\.0\].*, the config \{.*8\.0\]"),
    "spacing": (
        ("preprocessing", "spacing"),
        [2, 3.5, 3.5],
        r"spacing: the weights \[2\.0, 3\.5, 3\.5\], the config \[3\.5, 3",
    ),
    "orientation": (("preprocessing", "orientation"), "LPS", r"orientation: the weights LPS, the config RAS"),
    "intensity": (("intensity", "a_min"), -200, r"intensity: the weights \{.*-200\.0.*, the config \{.*-1024\.0"),
}


def changed(*names: str) -> dict[str, Any]:
    """What model.json says of weights that differ from EXPECTED in these."""
    description = copy.deepcopy(EXPECTED)
    for name in names:
        (part, argument), value, _ = CHANGES[name]
        description[part][argument] = value
    return description


def test_the_same_is_accepted_silently(caplog):
    check_compatible(EXPECTED, EXPECTED, "models")
    assert not caplog.records


def test_the_way_of_writing_does_not_matter():
    description = copy.deepcopy(EXPECTED)
    description["network"]["channels"] = (4.0, 8.0)
    description["intensity"] |= {"keys": ["moving", "fixed"], "allow_missing_keys": True, "b_max": 1}
    description["preprocessing"] |= {"patch_size": [48, 48, 48]}  # weights take volumes of any size
    check_compatible(description | {"seed": 3, "data": {"volumes": 9}}, EXPECTED, "models")


@pytest.mark.parametrize("name", CHANGES)
def test_a_difference_is_named_with_both_sides(name):
    with pytest.raises(ValueError, match=CHANGES[name][2]) as error:
        check_compatible(changed(name), EXPECTED, "some/models")
    assert "some/models does not fit the config" in str(error.value)
    assert [other for other in CHANGES if f"\n  {other}: the weights" in str(error.value)] == [name]


def test_another_class_and_another_flag_are_differences():
    for part, argument, value in (("network", "_target_", "monai.networks.nets.UNet"), ("intensity", "clip", False)):
        description = copy.deepcopy(EXPECTED)
        description[part][argument] = value
        with pytest.raises(ValueError, match=f"{part}: the weights .*{value}.*, the config"):
            check_compatible(description, EXPECTED, "models")


def test_all_differences_are_named_together():
    with pytest.raises(ValueError) as error:
        check_compatible(changed(*CHANGES), EXPECTED, "models")
    assert all(f"\n  {name}: the weights" in str(error.value) for name in CHANGES)


@pytest.mark.parametrize("name", ["spacing", "orientation", "intensity"])
def test_an_accepted_difference_is_a_warning_that_names_both_sides(name, caplog):
    check_compatible(changed(name), EXPECTED, "some/models", [name])
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and record.message.startswith("some/models is used although")
    assert re.search(CHANGES[name][2], record.message)


def test_what_is_accepted_stands_for_nothing_else(caplog):
    with pytest.raises(ValueError, match="intensity: the weights") as error:
        check_compatible(changed("spacing", "intensity"), EXPECTED, "models", ["spacing"])
    assert "spacing: the weights" not in str(error.value) and "spacing: the weights" in caplog.text
    check_compatible(EXPECTED, EXPECTED, "models", ["spacing", "intensity"])
    assert len(caplog.records) == 1  # no difference, no warning


@pytest.mark.parametrize("names", [["network"], ["spacing", "patch_size"], "spacing"])
def test_other_names_cannot_be_accepted(names):
    with pytest.raises(ValueError, match=r"accept_mismatch holds .*, expected names among \['spacing', 'orientation'"):
        check_compatible(EXPECTED, EXPECTED, "models", names)


@pytest.mark.parametrize("name", CHANGES)
def test_what_one_side_does_not_say_is_not_compared(name):
    (part, argument), _, _ = CHANGES[name]
    silent = changed(name)
    if part == "preprocessing":
        del silent[part][argument]
    else:
        del silent[part]
    check_compatible(silent, EXPECTED, "models")
    check_compatible(EXPECTED, silent, "models")
    check_compatible(EXPECTED, silent | {part: {}}, "models")
    check_compatible({}, EXPECTED, "models")


def test_describe_resolves_the_running_config():
    config = {
        "width": 4,
        "spacing": [2.0, 2.0, 2.0],
        "net": {"_target_": "custom.networks.UNet3D", "in_channels": 1, "channels": "$[@width, 2 * @width]"},
        "described": "$describe({'network': 'net'}, {'spacing': @spacing, 'orientation': 'RAS'})",
    }
    parser = ConfigParser(config | {"width": 6}, globals={"describe": describe})
    assert parser.get_parsed_content("described") == {
        "network": {"_target_": "custom.networks.UNet3D", "in_channels": 1, "channels": [6, 12]},
        "preprocessing": {"spacing": [2.0, 2.0, 2.0], "orientation": "RAS"},
    }


def test_describe_outside_of_a_run():
    assert describe({}, {"spacing": (1, 1, 1)}) == {"preprocessing": {"spacing": (1, 1, 1)}}
    with pytest.raises(
        RuntimeError, match="component 'network_def' cannot be looked up, expected a call from a bundle"
    ):
        describe({"network": "network_def"}, {"spacing": (1, 1, 1)})
