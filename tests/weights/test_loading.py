# SPDX-License-Identifier: Apache-2.0
"""Networks with trained weights: what is loaded and logged, and which weights are refused."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from custom.weights import load_backbone, load_network, save_pretext, save_weights

CHANNELS = [4, 8]
LOGGER = "custom.weights.loading"
FUNCTIONS = ("load_pretext_network", "load_backbone")
DESCRIPTION = {
    "pretext_task": "gvsl",
    "iterations": 300,
    "network": {"_target_": "custom.networks.UNet3D", "in_channels": 1, "channels": CHANNELS},
    "intensity": {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -1024, "a_max": 1024},
    "preprocessing": {"spacing": [3.5, 3.5, 3.5], "orientation": "RAS", "patch_size": [48, 48, 48]},
}
CONFIG = {
    "spacing": [3.5, 3.5, 3.5],
    "orientation": "RAS",
    "channels": CHANNELS,
    "a_min": -1024,
    "network_def": {"_target_": "custom.networks.UNet3D", "in_channels": 1, "channels": "@channels"},
    "intensity": {"_target_": "ScaleIntensityRanged", "keys": ["moving", "fixed"], "a_min": "@a_min", "a_max": 1024},
    "accept_mismatch": [],
    "loaded": {
        "components": {"network": "network_def", "intensity": "intensity"},
        "preprocessing": {"spacing": "@spacing", "orientation": "@orientation"},
        "accept_mismatch": "@accept_mismatch",
    },
}
MISMATCHES = {
    "spacing": ({"spacing": [2, 2, 2]}, r"spacing: the weights \[3\.5, 3\.5, 3\.5\], the config \[2\.0, 2\.0, 2\.0\]"),
    "intensity": ({"a_min": -200}, r"intensity: the weights \{.*-1024\.0.*\}, the config \{.*-200\.0"),
    "network": ({"channels": [4, 6]}, r"network: the weights \{.*\[4\.0, 8\.0\]\}, the config \{.*\[4\.0, 6\.0\]"),
    "orientation": ({"orientation": "LPS"}, r"orientation: the weights RAS, the config LPS"),
}


@pytest.fixture
def saved(tmp_path, make_pretext):
    """A trained network, and the folder that holds it."""
    network = make_pretext(CHANNELS, seed=1)
    save_pretext(network, tmp_path / "models", DESCRIPTION)
    return network, tmp_path / "models"


@pytest.fixture
def fresh(make_pretext):
    """Another network of the same shape."""
    return make_pretext(CHANNELS, seed=2)


def load(function: str, network: torch.nn.Module, directory: Path, parts: tuple = (), **config: Any) -> torch.nn.Module:
    """What the function returns in a bundle config with these overrides."""
    arguments = {"_target_": f"custom.weights.{function}", "network": "$network", "weights": str(directory)}
    arguments |= {"parts": list(parts)} if parts else {}
    parser = ConfigParser(CONFIG | {"loaded": arguments | CONFIG["loaded"]} | config, globals={"network": network})
    return parser.get_parsed_content("loaded")


def refused(function: str, network: torch.nn.Module, directory: Path, **config: Any) -> str:
    """The message of the error, and of its cause; MONAI wraps the errors of what it calls."""
    with pytest.raises((RuntimeError, ValueError, FileNotFoundError)) as error:
        load(function, network, directory, **config)
    return f"{error.value}\n{error.value.__cause__}"


def equal(network: torch.nn.Module, other: torch.nn.Module) -> list[bool]:
    """Of each tensor, whether it is the same."""
    state, others = network.state_dict(), other.state_dict()
    assert list(state) == list(others)
    return [torch.equal(state[name], others[name]) for name in state]


def test_the_pretext_network_is_loaded_whole(saved, fresh, caplog):
    trained, directory = saved
    assert not all(equal(fresh, trained))
    with caplog.at_level(logging.INFO, LOGGER):
        assert load("load_pretext_network", fresh, directory) is fresh
    assert all(equal(fresh, trained))
    assert caplog.messages == [f"loaded backbone and heads of gvsl, 300 iterations, from {directory}"]


def test_the_backbone_is_loaded_alone(saved, fresh):
    trained, directory = saved
    heads = {name: tensor.clone() for name, tensor in fresh.state_dict().items() if not name.startswith("backbone.")}
    assert load("load_backbone", fresh, directory) is fresh
    assert all(equal(fresh.backbone, trained.backbone))
    assert all(torch.equal(fresh.state_dict()[name], tensor) for name, tensor in heads.items())


def test_a_config_loads_once_whatever_refers_to_the_network(saved, fresh):
    """A checkpoint, or the average of a federated round, is not replaced."""
    arguments = {"_target_": "custom.weights.load_backbone", "network": "$network", "weights": str(saved[1])}
    config = {"loaded": arguments, "trainer": {"_target_": "builtins.dict", "network": "@loaded"}, "other": ["@loaded"]}
    parser = ConfigParser(config, globals={"network": fresh})
    network = parser.get_parsed_content("trainer")["network"]
    torch.nn.init.ones_(next(network.backbone.parameters()))
    assert parser.get_parsed_content("other")[0] is network
    assert next(fresh.backbone.parameters()).eq(1).all()


def test_no_weights_leave_the_network_as_it_is(fresh, make_pretext):
    assert load_backbone(fresh, None) is fresh
    assert all(equal(fresh, make_pretext(CHANNELS, seed=2)))


def test_a_part_of_the_backbone_is_loaded_alone(saved, fresh, caplog):
    trained, directory = saved
    initial = {name: tensor.clone() for name, tensor in fresh.backbone.state_dict().items()}
    with caplog.at_level(logging.INFO, LOGGER):
        load("load_backbone", fresh, directory, parts=("encoder",))
    for name, tensor in fresh.backbone.state_dict().items():
        origin = trained.backbone.state_dict() if name.startswith("encoder.") else initial
        assert torch.equal(tensor, origin[name]), name
    loaded = sum(name.startswith("encoder.") for name in initial)
    assert caplog.messages[0].startswith(f"loaded {loaded} tensors of gvsl")
    assert f"; {len(fresh.state_dict()) - loaded} tensors of the network keep" in caplog.messages[0]


def test_an_unknown_part_is_refused_and_the_parts_of_the_weights_are_named(saved, fresh):
    message = refused("load_backbone", fresh, saved[1], parts=("encoder", "bottleneck"))
    assert "no parts ['bottleneck'], expected some of ['encoder', 'decoder']" in message


def test_a_part_with_a_missing_tensor_is_refused(saved, fresh):
    """Its initial values are no pre-trained ones."""
    trained, directory = saved
    state = dict(list(trained.backbone.state_dict().items())[1:])
    save_weights(directory, {"model.pt": ("backbone", state)}, DESCRIPTION)
    assert next(iter(trained.backbone.state_dict())) in refused("load_backbone", fresh, directory, parts=("encoder",))


def test_loaded_and_initial_tensors_are_logged(saved, fresh, caplog):
    _, directory = saved
    names = list(fresh.backbone.state_dict())
    heads = [name for name in fresh.state_dict() if not name.startswith("backbone.")]
    with caplog.at_level(logging.INFO, LOGGER):
        load("load_backbone", fresh, directory)
        load("load_backbone", fresh.backbone, directory / "model.pt")  # a bare backbone, a file
    start = f"loaded {len(names)} tensors of gvsl, 300 iterations, from {directory}"
    loaded = f"{', '.join(names[:4])}, ...; "
    left = f"{len(heads)} tensors of the network keep their initial values: {', '.join(heads[:4])}, ..."
    assert caplog.messages[0] == f"{start}: {loaded}{left}"
    bare = f"{start}/model.pt: {loaded}0 tensors of the network keep their initial values: none"
    assert caplog.messages[1] == bare


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("name", MISMATCHES)
def test_a_mismatch_is_named_with_both_sides_and_nothing_is_loaded(saved, fresh, make_pretext, function, name):
    change, message = MISMATCHES[name]
    text = refused(function, fresh, saved[1], **change)
    assert re.search(message, text) and str(saved[1]) in text
    assert all(equal(fresh, make_pretext(CHANNELS, seed=2)))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("name", ["spacing", "intensity", "orientation"])
def test_an_accepted_mismatch_is_a_warning(saved, fresh, caplog, function, name):
    change, message = MISMATCHES[name]
    load(function, fresh, saved[1], accept_mismatch=[name], **change)
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert str(saved[1]) in warning.message and name in warning.message and "the config" in warning.message
    assert all(equal(fresh.backbone, saved[0].backbone))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_another_network_cannot_be_accepted(saved, fresh, function):
    message = refused(function, fresh, saved[1], accept_mismatch=["network"], channels=[4, 6])
    assert "accept_mismatch holds ['network']" in message


@pytest.mark.parametrize(
    ("function", "name"), [(FUNCTIONS[0], "model.pt"), (FUNCTIONS[0], "heads.pt"), (FUNCTIONS[1], "model.pt")]
)
def test_a_tampered_file_is_refused(saved, fresh, make_pretext, function, name):
    content = bytearray((saved[1] / name).read_bytes())
    content[len(content) // 2] ^= 1
    (saved[1] / name).write_bytes(content)
    assert re.search(rf"{name} has SHA-256 \w+, but .*model\.json names \w+", refused(function, fresh, saved[1]))
    assert all(equal(fresh, make_pretext(CHANNELS, seed=2)))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_other_widths_than_the_config_says_are_named(saved, make_pretext, function):
    # the config claims the widths of the weights, the network at hand has others
    message = refused(function, make_pretext([6, 8]), saved[1])
    assert "do not fit the network in" in message and str(saved[1]) in message
    assert "has shape (4, 1, 3, 3, 3), the network (6, 1, 3, 3, 3)" in message


@pytest.mark.parametrize("function", FUNCTIONS)
def test_missing_weights_are_named(tmp_path, fresh, function):
    assert "nowhere" in refused(function, fresh, tmp_path / "nowhere")


def test_without_components_only_the_tensors_are_compared(saved, fresh):
    load_backbone(fresh, str(saved[1]))
    assert all(equal(fresh.backbone, saved[0].backbone))


def test_a_downstream_network_loads_and_other_labels_are_refused(tmp_path):
    labels = {"b": 7, "a": 3}
    save_weights(tmp_path, {"model.pt": ("network", {"weight": torch.full((1, 1), 2.0)})}, {"labels": labels})
    network = torch.nn.Linear(1, 1, bias=False)
    assert load_network(network, str(tmp_path), labels).weight.item() == 2
    for other in ({"a": 3, "b": 7}, {"b": 7}, {"b": 7, "a": 4}):  # the order is that of the outputs
        with pytest.raises(ValueError, match=r"labels: the weights \[\['b', 7.*, the config \["):
            load_network(network, str(tmp_path), other)


def test_components_outside_of_a_run_are_refused(saved, fresh, make_pretext):
    with pytest.raises(RuntimeError, match="'network_def' cannot be looked up"):
        load_backbone(fresh, str(saved[1]), components={"network": "network_def"})
    assert all(equal(fresh, make_pretext(CHANNELS, seed=2)))
