# SPDX-License-Identifier: Apache-2.0
"""Trained weights for an engine: when they are loaded, what is said of it, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from monai.bundle import ConfigParser

from custom.handlers import LoadBackbone, LoadPretext
from custom.weights import save_pretext

CHANNELS = [4, 8]
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
    "handler": {
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


def make(handler: type, network: torch.nn.Module, directory: Path, **config: Any) -> LoadPretext | LoadBackbone:
    """The handler, made by a bundle config with these overrides."""
    place = {"LoadPretext": "directory", "LoadBackbone": "weights"}[handler.__name__]
    arguments = {"_target_": f"custom.handlers.{handler.__name__}", "network": "$network", place: str(directory)}
    parser = ConfigParser(CONFIG | {"handler": arguments | CONFIG["handler"]} | config, globals={"network": network})
    return parser.get_parsed_content("handler")


def attached(handler: LoadPretext | LoadBackbone) -> Engine:
    """An engine that has the handler."""
    engine = Engine(lambda engine, batch: None)
    handler.attach(engine)
    return engine


def load(handler: type, network: torch.nn.Module, directory: Path, **config: Any) -> None:
    attached(make(handler, network, directory, **config)).run([0])


def equal(network: torch.nn.Module, other: torch.nn.Module) -> list[bool]:
    """Of each tensor, whether it is the same."""
    state, others = network.state_dict(), other.state_dict()
    assert list(state) == list(others)
    return [torch.equal(state[name], others[name]) for name in state]


def test_the_pretext_network_is_loaded_whole_when_it_is_attached_and_never_again(saved, fresh, caplog):
    trained, directory = saved
    assert not all(equal(fresh, trained))
    with caplog.at_level(logging.INFO, "custom.handlers.load_weights"):
        engine = attached(make(LoadPretext, fresh, directory))
    assert all(equal(fresh, trained))
    assert caplog.messages == [f"loaded backbone and heads of gvsl, 300 iterations, from {directory}"]
    torch.nn.init.ones_(next(fresh.parameters()))  # the average of a federated round
    engine.run([0])
    assert next(fresh.parameters()).eq(1).all()


def test_the_backbone_is_loaded_when_it_is_attached_and_never_again(saved, fresh):
    trained, directory = saved
    heads = {name: tensor.clone() for name, tensor in fresh.state_dict().items() if not name.startswith("backbone.")}
    engine = attached(make(LoadBackbone, fresh, directory))
    assert all(equal(fresh.backbone, trained.backbone))
    assert all(torch.equal(fresh.state_dict()[name], tensor) for name, tensor in heads.items())
    torch.nn.init.ones_(next(fresh.backbone.parameters()))  # a checkpoint, or the average of a federated round
    engine.run([0])
    assert next(fresh.backbone.parameters()).eq(1).all()


def test_a_part_of_the_backbone_is_loaded_alone(saved, fresh, caplog):
    trained, directory = saved
    initial = {name: tensor.clone() for name, tensor in fresh.backbone.state_dict().items()}
    handler = make(LoadBackbone, fresh, directory)
    handler.parts = ("encoder",)
    with caplog.at_level(logging.INFO, "custom.handlers.load_weights"):
        attached(handler)
    for name, tensor in fresh.backbone.state_dict().items():
        origin = trained.backbone.state_dict() if name.startswith("encoder.") else initial
        assert torch.equal(tensor, origin[name]), name
    loaded = sum(name.startswith("encoder.") for name in initial)
    assert caplog.messages[0].startswith(f"loaded {loaded} tensors of gvsl")
    assert f"; {len(fresh.state_dict()) - loaded} tensors of the network keep" in caplog.messages[0]


def test_an_unknown_part_is_refused_with_those_that_there_are(saved, fresh):
    handler = make(LoadBackbone, fresh, saved[1])
    handler.parts = ("encoder", "bottleneck")
    with pytest.raises(ValueError, match=r"no parts \['bottleneck'\], expected some of \['encoder', 'decoder'\]"):
        attached(handler)


def test_what_was_loaded_and_what_was_left_is_logged(saved, fresh, caplog):
    _, directory = saved
    names = list(fresh.backbone.state_dict())
    heads = [name for name in fresh.state_dict() if not name.startswith("backbone.")]
    with caplog.at_level(logging.INFO, "custom.handlers.load_weights"):
        attached(make(LoadBackbone, fresh, directory))
        attached(make(LoadBackbone, fresh.backbone, directory / "model.pt"))  # a bare backbone, a file
    start = f"loaded {len(names)} tensors of gvsl, 300 iterations, from {directory}"
    loaded = f"{', '.join(names[:4])}, ...; "
    left = f"{len(heads)} tensors of the network keep their initial values: {', '.join(heads[:4])}, ..."
    assert caplog.messages[0] == f"{start}: {loaded}{left}"
    bare = f"{start}/model.pt: {loaded}0 tensors of the network keep their initial values: none"
    assert caplog.messages[1] == bare


@pytest.mark.parametrize("handler", [LoadPretext, LoadBackbone])
@pytest.mark.parametrize("name", MISMATCHES)
def test_a_mismatch_is_named_with_both_sides_and_nothing_is_loaded(saved, fresh, make_pretext, handler, name):
    change, message = MISMATCHES[name]
    with pytest.raises(ValueError, match=message) as error:
        load(handler, fresh, saved[1], **change)
    assert str(saved[1]) in str(error.value)
    assert all(equal(fresh, make_pretext(CHANNELS, seed=2)))


@pytest.mark.parametrize("handler", [LoadPretext, LoadBackbone])
@pytest.mark.parametrize("name", ["spacing", "intensity", "orientation"])
def test_an_accepted_mismatch_is_a_warning(saved, fresh, caplog, handler, name):
    change, message = MISMATCHES[name]
    load(handler, fresh, saved[1], accept_mismatch=[name], **change)
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert str(saved[1]) in warning.message and name in warning.message and "the config" in warning.message
    assert all(equal(fresh.backbone, saved[0].backbone))


@pytest.mark.parametrize("handler", [LoadPretext, LoadBackbone])
def test_another_network_cannot_be_accepted(saved, fresh, handler):
    with pytest.raises(ValueError, match=r"accept_mismatch holds \['network'\]"):
        load(handler, fresh, saved[1], accept_mismatch=["network"], channels=[4, 6])


@pytest.mark.parametrize(
    ("handler", "name"), [(LoadPretext, "model.pt"), (LoadPretext, "heads.pt"), (LoadBackbone, "model.pt")]
)
def test_a_tampered_file_is_refused(saved, fresh, make_pretext, handler, name):
    content = bytearray((saved[1] / name).read_bytes())
    content[len(content) // 2] ^= 1
    (saved[1] / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} has SHA-256 \w+, but .*model\.json names \w+"):
        load(handler, fresh, saved[1])
    assert all(equal(fresh, make_pretext(CHANNELS, seed=2)))


@pytest.mark.parametrize("handler", [LoadPretext, LoadBackbone])
def test_other_widths_than_the_config_says_are_named(saved, make_pretext, handler):
    # the config claims the widths of the weights, the network at hand has others
    with pytest.raises(ValueError, match="do not fit the network in") as error:
        load(handler, make_pretext([6, 8]), saved[1])
    assert "has shape (4, 1, 3, 3, 3), the network (6, 1, 3, 3, 3)" in str(error.value)
    assert str(saved[1]) in str(error.value)


@pytest.mark.parametrize("handler", [LoadPretext, LoadBackbone])
def test_missing_weights_are_named(tmp_path, fresh, handler):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load(handler, fresh, tmp_path / "nowhere")


def test_without_components_only_the_tensors_are_judged(saved, fresh):
    attached(LoadBackbone(fresh, str(saved[1])))
    assert all(equal(fresh.backbone, saved[0].backbone))
