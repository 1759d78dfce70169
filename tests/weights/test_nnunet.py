# SPDX-License-Identifier: Apache-2.0
"""Weights for nnU-Net. tests/clients/test_nnunet.py loads and trains them in nnU-Net itself."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from custom.networks import ResidualEncoderBackbone, UNet3D
from custom.networks.nnunet import architecture
from custom.weights.nnunet import in_plans, to_nnunet

NETWORK = {
    "_target_": "scripts.networks.ResidualEncoderBackbone",
    "in_channels": 2,
    "channels": [4, 8],
    "blocks": [1, 2],
}
DESCRIPTION = {"network": NETWORK, "preprocessing": {"spacing": [1.0, 2.0, 3.0], "patch_size": [16, 24, 32]}}


def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "network.encoder.stem.convs.0.conv.weight": (4, 2, 3, 3, 3),
        "network.encoder.stem.convs.0.norm.bias": (4,),
        "network.decoder.transpconvs.0.weight": (8, 4, 2, 2, 2),
        "network.decoder.seg_layers.0.weight": (4, 4, 1, 1, 1),
    }
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def test_a_transposed_volume_gives_transposed_features() -> None:
    ours, volume = weights(), torch.randn(1, 2, 5, 6, 7)
    theirs = to_nnunet(ours, DESCRIPTION)["network_weights"]
    name = "encoder.stem.convs.0.conv.weight"
    expected = F.conv3d(volume, ours[f"network.{name}"]).transpose(2, 4)
    assert torch.allclose(F.conv3d(volume.transpose(2, 4), theirs[name]), expected, atol=1e-5)
    assert theirs[name].is_contiguous()
    assert torch.equal(theirs["encoder.stem.convs.0.norm.bias"], ours["network.encoder.stem.convs.0.norm.bias"])
    assert sorted(theirs) == sorted(
        set(name.removeprefix("network.") for name in ours) - {"decoder.seg_layers.0.weight"}
    )


def test_the_plan_says_what_nnssl_reads() -> None:
    plan = to_nnunet(weights(), DESCRIPTION)["nnssl_adaptation_plan"]
    pretraining = {"patch_size": [32, 24, 16], "spacing": [3.0, 2.0, 1.0]}
    assert plan["pretrain_plan"] == {"configurations": {"gvsl": pretraining}}
    assert plan["recommended_downstream_patchsize"] == [32, 24, 16] and plan["pretrain_num_input_channels"] == 2
    arguments = plan["architecture_plans"]["arch_kwargs"]
    assert arguments["features_per_stage"] == [4, 8] and arguments["n_blocks_per_stage"] == [1, 2]
    assert arguments["strides"] == [[1, 1, 1], [2, 2, 2]] and arguments["n_conv_per_stage_decoder"] == [1]
    assert set(plan["architecture_plans"]["arch_kwargs_requiring_import"]) <= set(arguments)
    assert plan["key_to_encoder"] == "encoder.stages" and plan["key_to_stem"] == "encoder.stem"


def test_plans_get_the_network_of_the_weights() -> None:
    full = {"patch_size": [64, 64, 64], "spacing": [1, 1, 1], "data_identifier": "kept", "architecture": {}}
    plans: dict[str, Any] = {"plans_name": "p", "configurations": {"3d_fullres": full, "2d": {}}, "labels": "kept"}
    changed = in_plans(plans, DESCRIPTION, "p_gvsl")
    assert changed["plans_name"] == "p_gvsl" and changed["labels"] == "kept"
    (only,) = changed["configurations"].values()
    assert only["patch_size"] == [32, 24, 16] and only["spacing"] == [1, 1, 1] and only["data_identifier"] == "kept"
    assert only["architecture"]["arch_kwargs"] == architecture([4, 8], [1, 2])
    assert full["architecture"] == {}, "the plans that were given"
    with pytest.raises(ValueError, match=r"configurations \['2d'\], expected 3d_fullres"):
        in_plans({"configurations": {"2d": {}}}, DESCRIPTION, "p_gvsl")


def test_other_networks_are_refused() -> None:
    description = DESCRIPTION | {"network": {"_target_": "custom.networks.UNet3D", "channels": [4, 8]}}
    with pytest.raises(ValueError, match=r"UNet3D, expected custom\.networks\.ResidualEncoderBackbone"):
        to_nnunet(UNet3D(1, [4, 8]).state_dict(), description)


@pytest.mark.parametrize("network", [None, "UNet", {"channels": [4, 8]}])
def test_a_description_without_a_network_is_refused(network: Any) -> None:
    description = {name: value for name, value in DESCRIPTION.items() if name != "network"}
    description |= {} if network is None else {"network": network}
    with pytest.raises(ValueError, match=r"^model\.json: network is .*, expected an object with _target_"):
        to_nnunet(weights(), description)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"network": {name: value for name, value in NETWORK.items() if name != "blocks"}},
            "network has no blocks, expected in_channels, channels and blocks",
        ),
        ({"preprocessing": {}}, "preprocessing patch_size is None, expected a list of three numbers"),
        ({"preprocessing": None}, "preprocessing patch_size is None, expected a list of three numbers"),
    ],
)
def test_an_incomplete_description_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^model\.json: {message}$"):
        to_nnunet(weights(), DESCRIPTION | change)


def test_blocks_and_channels_agree() -> None:
    with pytest.raises(ValueError, match="blocks has 1 entries, expected 2"):
        ResidualEncoderBackbone(1, [4, 8], [1])


@pytest.mark.skipif(importlib.util.find_spec("dynamic_network_architectures") is not None, reason="it is installed")
def test_the_missing_package_is_named() -> None:
    with pytest.raises(ImportError, match="pip install dynamic-network-architectures"):
        ResidualEncoderBackbone(1, [4, 8], [1, 2])
