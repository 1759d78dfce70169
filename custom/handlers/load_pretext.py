# SPDX-License-Identifier: Apache-2.0
"""Trained weights for an evaluator."""

from __future__ import annotations

import logging

import torch
from ignite.engine import Engine, Events

from ..weights import load_pretext

logger = logging.getLogger(__name__)


class LoadPretext:
    """Loads backbone and heads from a directory with model.pt, heads.pt and model.json when the engine starts.

    Args:
        network: the pretext network. directory: see `load_pretext`.
    """

    def __init__(self, network: torch.nn.Module, directory: str) -> None:
        self.network = network
        self.directory = directory

    def attach(self, engine: Engine) -> None:
        """Registers on an engine."""
        engine.add_event_handler(Events.STARTED, self.load)

    def load(self, engine: Engine) -> None:
        description = load_pretext(self.network, self.directory)
        task, iterations = description.get("pretext_task"), description.get("iterations")
        logger.info(f"loaded backbone and heads of {task}, {iterations} iterations, from {self.directory}")
