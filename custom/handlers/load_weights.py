# SPDX-License-Identifier: Apache-2.0
"""Trained weights for an engine, if they fit its config."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine

from ..weights import BACKBONE_PREFIX, load_pretext, load_strictly, read_weights, unwrapped
from ..weights.compatibility import check_compatible, describe

logger = logging.getLogger(__name__)


class LoadPretext:
    """Loads backbone and heads from a directory with model.pt, heads.pt and model.json as soon as it is attached.

    Weights that were trained for another network or other input than the config gives are refused.

    Args:
        network: the pretext network. directory: see `load_pretext`.
        components, preprocessing: the config's side, see `describe`. accept_mismatch: see `check_compatible`.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        directory: str,
        components: Mapping[str, str] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
        accept_mismatch: Sequence[str] = (),
    ) -> None:
        self.network = network
        self.directory = directory
        self.expected = describe(components or {}, preprocessing or {})
        self.accept_mismatch = accept_mismatch

    def attach(self, engine: Engine) -> None:
        """Loads; registers nothing, so that averaged weights of federated rounds are not replaced."""
        _, description = read_weights(self.directory)
        check_compatible(description, self.expected, self.directory, self.accept_mismatch)
        load_pretext(self.network, self.directory)
        logger.info(f"loaded backbone and heads of {_origin(description)} from {self.directory}")


class LoadNetwork:
    """Loads the weights of a downstream run into a whole network as soon as it is attached.

    Weights of another network, of other structures or classes, or for other input than the config gives are refused.

    Args:
        network: the network. weights: a file NAME.pt beside its NAME.json, or a folder with model.pt and model.json.
        labels: structure or class -> value in the data set, in the order of the outputs.
        components, preprocessing: the config's side, see `describe`. accept_mismatch: see `check_compatible`.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        weights: str,
        labels: Mapping[str, int],
        components: Mapping[str, str] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
        accept_mismatch: Sequence[str] = (),
    ) -> None:
        self.network = network
        self.weights = weights
        self.expected = describe(components or {}, preprocessing or {}) | {"labels": dict(labels)}
        self.accept_mismatch = accept_mismatch

    def attach(self, engine: Engine) -> None:
        """Loads; registers nothing, so that averaged weights of federated rounds are not replaced."""
        state, description = read_weights(self.weights)
        check_compatible(description, self.expected, self.weights, self.accept_mismatch)
        load_strictly(unwrapped(self.network), state, self.weights)
        best = description.get("best", {})
        logger.info(
            f"loaded {len(state)} tensors of {description.get('task')} from {self.weights}: iteration "
            f"{description.get('iterations')}, {best.get('metric')} {best.get('value')}"
        )


class LoadBackbone:
    """Loads pre-trained weights into a backbone as soon as it is attached, before a checkpoint may replace them.

    Weights that were trained for another network or other input than the config gives are refused; which tensors
    were loaded, and which of the network were left as they are, is logged.

    Args:
        network: the whole network, with the attribute `backbone`, or a bare backbone.
        weights: a file NAME.pt beside its NAME.json, or a folder of a run (model.pt and model.json).
        components, preprocessing: the config's side, see `describe`. accept_mismatch: see `check_compatible`.
        parts: children of the backbone to load, such as "encoder"; all by default.

    Raises:
        ValueError: weights and config disagree, or the backbone has no such part; names both sides.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        weights: str,
        components: Mapping[str, str] | None = None,
        preprocessing: Mapping[str, Any] | None = None,
        accept_mismatch: Sequence[str] = (),
        parts: Sequence[str] = (),
    ) -> None:
        self.network = network
        self.weights = weights
        self.expected = describe(components or {}, preprocessing or {})
        self.accept_mismatch = accept_mismatch
        self.parts = tuple(parts)

    def attach(self, engine: Engine) -> None:
        """Loads; registers nothing, so that averaged weights of federated rounds are not replaced."""
        state, description = read_weights(self.weights)
        check_compatible(description, self.expected, self.weights, self.accept_mismatch)
        network = unwrapped(self.network)
        backbone = getattr(network, "backbone", network)
        if self.parts:
            state = part_of(state, self.parts, self.weights)
            load_strictly(backbone, backbone.state_dict() | state, self.weights)
        else:
            load_strictly(backbone, state, self.weights)
        left = [name for name in network.state_dict() if name not in state]
        left = [name for name in left if name.removeprefix(BACKBONE_PREFIX) not in state]
        logger.info(
            f"loaded {len(state)} tensors of {_origin(description)} from {self.weights}: {_shortened(list(state))}; "
            f"{len(left)} tensors of the network keep their initial values: {_shortened(left)}"
        )


def part_of(state: Mapping[str, torch.Tensor], parts: Sequence[str], source: str) -> dict[str, torch.Tensor]:
    """The tensors of a state dict whose names begin with one of the parts.

    Raises:
        ValueError: there are none of a part; names those that there are.
    """
    there = dict.fromkeys(name.split(".")[0] for name in state)
    if unknown := [part for part in parts if part not in there]:
        raise ValueError(f"the weights in {source} have no parts {unknown}, expected some of {list(there)}")
    return {name: tensor for name, tensor in state.items() if name.split(".")[0] in parts}


def _origin(description: Mapping[str, Any]) -> str:
    return f"{description.get('pretext_task')}, {description.get('iterations')} iterations,"


def _shortened(names: Sequence[str], shown: int = 4) -> str:
    listed = ", ".join(names[:shown]) or "none"
    return f"{listed}, ..." if len(names) > shown else listed
