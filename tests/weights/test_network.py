# SPDX-License-Identifier: Apache-2.0
"""A network from model.json: those of the zoo are built, anything else that the file names is not run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch import nn

from custom.weights import load_strictly, network_from, read_weights

UNET = {"_target_": "custom.networks.UNet3D", "in_channels": 1, "channels": [4, 8]}
MODELS = sorted((Path(__file__).parents[2] / "bundles").glob("*/models"))


@pytest.mark.parametrize("models", MODELS, ids=lambda path: path.parent.name)
def test_shipped_descriptions_build_the_network_of_their_weights(models):
    state, _ = read_weights(models)
    load_strictly(network_from(models / "model.json"), state, models)


@pytest.mark.parametrize(
    "network",
    [
        UNET,
        UNET | {"_target_": "scripts.networks.UNet3D"},
        UNET | {"_target_": "custom.networks.unet.UNet3D"},
        {"_target_": "custom.networks.SegmentationNetwork", "backbone": UNET, "classes": 2},
        {"_target_": "SegResNet", "spatial_dims": 3, "init_filters": 8},
        {"_target_": "monai.networks.nets.BasicUNet", "features": [4, 4, 4, 4, 4, 4]},
        {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 2, "kernel_size": 1},
    ],
)
def test_networks_of_ours_of_monai_and_of_torch_are_built(network):
    assert isinstance(network_from({"network": network}), nn.Module)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ({"_target_": "os.system", "command": "touch ran"}, "network#_target_ is 'os.system', expected a network of"),
        ({"_target_": "builtins.exec"}, "network#_target_"),
        ({"_target_": "torch.load", "f": "x"}, "network#_target_"),
        ({"_target_": "torch.nn.modules.module.torch.load", "f": "x"}, "network#_target_"),
        ({"_target_": "torch.nn.functional.relu", "input": 1}, "network#_target_"),
        ({"_target_": "torch.nn.Module.__init_subclass__"}, "network#_target_"),
        ({"_target_": "monai.networks.utils.convert_to_onnx"}, "network#_target_"),
        ({"_target_": "custom.files.write_text", "path": "ran", "text": ""}, "network#_target_"),
        ({"_target_": "custom.networks.absent.Net"}, "network#_target_"),
        ({"_target_": 3}, "network#_target_"),
        (
            UNET | {"channels": "$__import__('os').system('touch ran')"},
            r"network#channels is .\$__import__.*no expression",
        ),
        (UNET | {"channels": [4, "$8"]}, "network#channels#1"),
        (UNET | {"channels": "@width"}, "network#channels"),
        (UNET | {"_mode_": "callable"}, r"network has \['_mode_'\]"),
        (
            {"_target_": "custom.networks.SegmentationNetwork", "backbone": {"_target_": "os.system"}},
            "backbone#_target_",
        ),
        (UNET | {"depth": 3}, r"UNet3D does not accept \['channels', 'depth', 'in_channels'\]"),
        (None, "network is None"),
        ([UNET], r"network is \["),
        ("$print(1)", "network is '\\$print"),
    ],
    ids=str,
)
def test_anything_else_is_refused_and_not_run(network, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({"network": network}))
    with pytest.raises(ValueError, match=f"model.json: {'.*' if words.startswith(('UNet', 'back')) else ''}{words}"):
        network_from("model.json")
    assert not (tmp_path / "ran").exists()
