# SPDX-License-Identifier: Apache-2.0
"""The result of a pre-training run: its weights and their description."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite
import monai
import numpy as np
import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events

from ..data import fingerprint
from ..data.origin import trained_on
from ..files import finite, read_json
from ..running import published_config
from ..weights import save_pretext
from ..weights.compatibility import describe

logger = logging.getLogger(__name__)


def describe_run(
    components: Mapping[str, str],
    preprocessing: Mapping[str, Any],
    data: Sequence[dict[str, Any]],
    seed: int,
    licence: str,
) -> dict[str, Any]:
    """The part of model.json that is known before the first step: input, data and its origin, seed, versions, config.

    Args:
        components: see `describe`.
        preprocessing: see `describe`.
        data: the training items; their fingerprint is stored, not their paths.
        seed: of the run.
        licence: of the weights.
    """
    return {
        **describe(components, preprocessing),
        "data": fingerprint(data),
        "trained_on": trained_on(data),
        "seed": seed,
        "licence": licence,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "monai": monai.__version__,
            "numpy": np.__version__,
            "pytorch-ignite": ignite.__version__,
        },
        "config": published_config(),
    }


class ModelExport:
    """Writes model.pt, heads.pt and model.json after each validation and at the end; on the first process only.

    Args:
        network: the pretext network.
        directory: where the files go.
        validator: evaluator whose last metrics go into model.json.
        pretext_task: name of the task.
        preprocessing: spacing, orientation and patch size of the input that the weights expect.
        components: name in model.json -> id of the component of the config that is stored under this name.
        data: see `describe_run`.
        seed: of the run.
        licence: of the weights.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        directory: str,
        validator: Engine,
        pretext_task: str,
        preprocessing: dict[str, Any],
        components: dict[str, str],
        data: Sequence[dict[str, Any]],
        seed: int,
        licence: str = "Apache-2.0",
    ) -> None:
        self.network = network
        self.directory = directory
        self.validator = validator
        self.description = {
            "pretext_task": pretext_task,
            **describe_run(components, preprocessing, data, seed, licence),
        }

    def attach(self, trainer: Engine) -> None:
        """Registers on the trainer."""
        if idist.get_rank() == 0:
            self.validator.add_event_handler(Events.COMPLETED, lambda _: self.save(trainer))
            trainer.add_event_handler(Events.COMPLETED, self.end)

    def end(self, trainer: Engine) -> None:
        """Writes the files of the last network; logs the result of the run."""
        self.save(trainer)
        loss = self.validator.state.metrics.get("loss")
        measured = "" if loss is None else f", validation loss {loss:.4f}"
        logger.info(f"trained {trainer.state.iteration} iterations{measured}; written to {self.directory}")

    def save(self, trainer: Engine) -> None:
        """Writes the files of the present network.

        A run that resumes has no metrics before its first validation; then those of model.json are kept. They are its
        own, because `SetAsideEarlierRun` moves the files of other runs away.
        """
        metrics = {name: finite(value) for name, value in self.validator.state.metrics.items()}
        described = Path(self.directory) / "model.json"
        if not metrics and described.is_file():
            metrics = read_json(described, "the description of the weights").get("metrics", {})
        progress = {"iterations": trainer.state.iteration, "metrics": metrics}
        save_pretext(self.network, self.directory, progress | self.description)
