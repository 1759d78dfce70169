# SPDX-License-Identifier: Apache-2.0
"""Weights of a `ResidualEncoderBackbone` as a checkpoint of nnU-Net 2 and nnssl."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..networks.nnunet import CLASS, LAYERS, architecture

OUR_PREFIX = "network."
CITATION = (
    "He, Y., Yang, G., Ge, R., Chen, Y., Coatrieux, J.-L., Wang, B., & Li, S. (2023). Geometric Visual Similarity "
    "Learning in 3D Medical Image Self-supervised Pre-training. CVPR."
)


def to_nnunet(backbone: Mapping[str, torch.Tensor], description: Mapping[str, Any]) -> dict[str, Any]:
    """The checkpoint that `nnUNetv2_train -pretrained_weights` and nnssl's fine-tuning read.

    nnU-Net's arrays have the axes z, y, x and ours x, y, z: the kernels are transposed. The last layer, which gives our
    local features, is left out.

    Args:
        backbone: name -> tensor of a `ResidualEncoderBackbone`.
        description: model.json of the weights.

    Returns:
        {"network_weights": ..., "nnssl_adaptation_plan": ..., "citations": ...}

    Raises:
        ValueError: the weights are of another network.
    """
    network = described_network(description)
    weights = {
        name.removeprefix(OUR_PREFIX): tensor.transpose(2, 4).contiguous() if tensor.ndim == 5 else tensor
        for name, tensor in backbone.items()
        if ".seg_layers." not in name
    }
    patch_size = in_their_order(description, "patch_size")
    plan = {
        "architecture_plans": architecture_of(network),
        "pretrain_plan": {
            "configurations": {"gvsl": {"patch_size": patch_size, "spacing": in_their_order(description, "spacing")}}
        },
        "pretrain_num_input_channels": network["in_channels"],
        "recommended_downstream_patchsize": patch_size,
        "key_to_encoder": "encoder.stages",
        "key_to_stem": "encoder.stem",
        "keys_to_in_proj": ["encoder.stem.convs.0.conv", "encoder.stem.convs.0.all_modules.0"],
        "key_to_lpe": None,
    }
    citations = [{"type": "Pre-training method", "name": "GVSL", "apa_citations": [CITATION]}]
    return {"network_weights": weights, "nnssl_adaptation_plan": plan, "citations": citations}


def in_plans(plans: Mapping[str, Any], description: Mapping[str, Any], name: str) -> dict[str, Any]:
    """nnU-Net's plans with the network and the patch size of the weights in the configuration 3d_fullres, its only one.

    Spacing, intensities and preprocessed files stay those of the plans.

    Args:
        plans: content of a plans file of nnU-Net 2 with the configuration 3d_fullres.
        description: model.json of the weights.
        name: plans_name of the new plans.

    Raises:
        ValueError: the plans have no configuration 3d_fullres, or the weights are of another network.
    """
    if "3d_fullres" not in plans.get("configurations", {}):
        raise ValueError(
            f"the plans have the configurations {sorted(plans.get('configurations', {}))}, expected 3d_fullres"
        )
    of_nnssl = architecture_of(described_network(description))
    architecture_in_plans = {
        "network_class_name": of_nnssl["arch_class_name"],
        "arch_kwargs": of_nnssl["arch_kwargs"],
        "_kw_requires_import": of_nnssl["arch_kwargs_requiring_import"],
    }
    changed = {"architecture": architecture_in_plans, "patch_size": in_their_order(description, "patch_size")}
    full = {**plans["configurations"]["3d_fullres"], **changed}
    return {**plans, "plans_name": name, "configurations": {"3d_fullres": full}}


def architecture_of(network: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture of a network as nnssl describes it."""
    return {
        "arch_class_name": CLASS,
        "arch_kwargs": architecture(network["channels"], network["blocks"]),
        "arch_kwargs_requiring_import": list(LAYERS),
    }


def in_their_order(description: Mapping[str, Any], name: str) -> list[Any]:
    """A preprocessing value of each axis, such as the spacing in mm, in nnU-Net's order z, y, x.

    Raises:
        ValueError: the file does not hold three such values.
    """
    preprocessing = description.get("preprocessing")
    values = preprocessing.get(name) if isinstance(preprocessing, Mapping) else None
    if not isinstance(values, list) or len(values) != 3:
        raise ValueError(f"model.json: preprocessing {name} is {values!r}, expected a list of three numbers")
    return values[::-1]


def described_network(description: Mapping[str, Any]) -> Mapping[str, Any]:
    """The network of a model.json.

    Raises:
        ValueError: the file describes no network, another one than a `ResidualEncoderBackbone`, or not all of it.
    """
    network = description.get("network")
    if not isinstance(network, Mapping) or "_target_" not in network:
        raise ValueError(f"model.json: network is {network!r}, expected an object with _target_")
    if not network["_target_"].endswith(".ResidualEncoderBackbone"):
        raise ValueError(f"the weights are of {network['_target_']}, expected custom.networks.ResidualEncoderBackbone")
    if missing := [name for name in ("in_channels", "channels", "blocks") if name not in network]:
        raise ValueError(f"model.json: network has no {', '.join(missing)}, expected in_channels, channels and blocks")
    return network
