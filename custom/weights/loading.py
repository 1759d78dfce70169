# SPDX-License-Identifier: Apache-2.0
"""Networks with trained weights: each function compares the weights with the config and loads them.

A config calls it where it defines the network. The weights are then loaded once: before an engine uses the network, and
before a checkpoint or a federated round may replace them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from .compatibility import check_compatible, describe
from .state import BACKBONE_PREFIX, load_pretext, load_strictly, read_weights

logger = logging.getLogger(__name__)


def load_backbone(
    network: nn.Module,
    weights: str | None,
    components: Mapping[str, str] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    accept_mismatch: Sequence[str] = (),
    parts: Sequence[str] = (),
) -> nn.Module:
    """Load pre-trained weights into a backbone. The log names the tensors that are loaded and those that are not.

    Args:
        network: a network with the attribute `backbone`, or a backbone.
        weights: a file NAME.pt beside its NAME.json, or a folder with model.pt and model.json; None loads nothing.
        components: see `describe`; without them only names and shapes of the tensors are compared.
        preprocessing: see `describe`.
        accept_mismatch: see `check_compatible`.
        parts: children of the backbone to load, such as "encoder"; by default all.

    Returns:
        The same network.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: weights and config differ, or the weights have no such part; the message names both sides.
    """
    if weights is None:
        return network
    state, description = read_weights(weights)
    check_compatible(description, describe(components or {}, preprocessing or {}), weights, accept_mismatch)
    backbone = getattr(network, "backbone", network)
    others = {}
    if parts:
        state = part_of(state, parts, weights)
        others = {name: tensor for name, tensor in backbone.state_dict().items() if name.split(".")[0] not in parts}
    load_strictly(backbone, others | state, weights)
    initial = [name for name in network.state_dict() if name.removeprefix(BACKBONE_PREFIX) not in state]
    logger.info(
        f"loaded {len(state)} tensors of {_origin(description)} from {weights}: {_shortened(list(state))}; "
        f"{len(initial)} tensors of the network keep their initial values: {_shortened(initial)}"
    )
    return network


def load_network(
    network: nn.Module,
    weights: str,
    labels: Mapping[str, int],
    components: Mapping[str, str] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    accept_mismatch: Sequence[str] = (),
) -> nn.Module:
    """Load the weights of a downstream run into the whole network.

    Args:
        network: the network.
        weights: a file NAME.pt beside its NAME.json, or a folder with model.pt and model.json.
        labels: structure or class -> value in the data set, in the order of the network's outputs.
        components: as for `load_backbone`, which also describes errors and the returned network.
        preprocessing: see `describe`.
        accept_mismatch: see `check_compatible`.
    """
    state, description = read_weights(weights)
    expected = describe(components or {}, preprocessing or {}) | {"labels": dict(labels)}
    check_compatible(description, expected, weights, accept_mismatch)
    load_strictly(network, state, weights)
    best = description.get("best") or {}
    logger.info(
        f"loaded {len(state)} tensors of {description.get('task')} from {weights}: iteration "
        f"{description.get('iterations')}, {best.get('metric')} {best.get('value')}"
    )
    return network


def load_pretext_network(
    network: nn.Module,
    weights: str,
    components: Mapping[str, str] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    accept_mismatch: Sequence[str] = (),
) -> nn.Module:
    """Load the backbone and the heads of a pre-training run.

    Args:
        network: the pretext network.
        weights: folder with model.pt, heads.pt and model.json.
        components: as for `load_backbone`, which also describes errors and the returned network.
        preprocessing: see `describe`.
        accept_mismatch: see `check_compatible`.
    """
    _, description = read_weights(weights)
    check_compatible(description, describe(components or {}, preprocessing or {}), weights, accept_mismatch)
    load_pretext(network, weights)
    logger.info(f"loaded backbone and heads of {_origin(description)} from {weights}")
    return network


def part_of(state: Mapping[str, torch.Tensor], parts: Sequence[str], source: str) -> dict[str, torch.Tensor]:
    """Select the tensors whose names begin with one of the parts.

    Raises:
        ValueError: no name begins with one of the parts; the message lists the parts that the weights have.
    """
    known = dict.fromkeys(name.split(".")[0] for name in state)
    if unknown := [part for part in parts if part not in known]:
        raise ValueError(f"the weights in {source} have no parts {unknown}, expected some of {list(known)}")
    return {name: tensor for name, tensor in state.items() if name.split(".")[0] in parts}


def _origin(description: Mapping[str, Any]) -> str:
    return f"{description.get('pretext_task')}, {description.get('iterations')} iterations,"


def _shortened(names: Sequence[str], shown: int = 4) -> str:
    listed = ", ".join(names[:shown]) or "none"
    return f"{listed}, ..." if len(names) > shown else listed
