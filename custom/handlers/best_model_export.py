# SPDX-License-Identifier: Apache-2.0
"""The result of a downstream run: the network of the best validation and its description."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events

from ..files import finite, read_json, sha256
from ..weights import description_file, save_weights, unwrapped, weights_file
from .model_export import describe_run

logger = logging.getLogger(__name__)


class BestModelExport:
    """Writes model.pt (the whole network) and model.json after each validation that is better than all before it.

    A run without a validation writes its last network. If the directory holds a model.json when the trainer starts, the
    run resumes, and the value in this file is the best so far; `SetAsideEarlierRun` moves the files of an earlier run
    away before. On the first process only.

    Args:
        network: the network; the keys of model.pt are those of its state dict.
        directory: where the files go.
        validator: evaluator with the metric; all its metrics go into model.json.
        task: name of the task.
        labels: structure or class -> value in the data set, in the order of the outputs.
        weights: the pre-trained weights from which the run starts, or None; their hash is stored.
        preprocessing: see `ModelExport`.
        components: see `ModelExport`.
        data: see `ModelExport`.
        seed: see `ModelExport`.
        metric: name of the metric, higher is better; None for the validator's key metric.
        licence: see `ModelExport`.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        directory: str,
        validator: Engine,
        task: str,
        labels: Mapping[str, int],
        weights: str | None,
        preprocessing: Mapping[str, Any],
        components: Mapping[str, str],
        data: Sequence[dict[str, Any]],
        seed: int,
        metric: str | None = None,
        licence: str = "Apache-2.0",
    ) -> None:
        self.network = network
        self.directory = Path(directory)
        self.validator = validator
        self.metric = metric
        self.description = {
            "task": task,
            "labels": dict(labels),
            "started_from": None if weights is None else _described_file(weights),
            **describe_run(components, preprocessing, data, seed, licence),
        }
        self.best: dict[str, Any] | None = None  # metric and finite value of the best validation
        self.written = False

    def attach(self, trainer: Engine) -> None:
        """Registers on the trainer."""
        if idist.get_rank() == 0:
            trainer.add_event_handler(Events.STARTED, self.start)
            self.validator.add_event_handler(Events.COMPLETED, lambda _: self.compare(trainer))
            trainer.add_event_handler(Events.COMPLETED, self.end)

    def start(self, trainer: Engine) -> None:
        """Reads the best validation of a run that resumes."""
        description = self.directory / "model.json"
        self.best, self.written = None, description.is_file()
        if self.written:
            best = read_json(description, "the best model").get("best") or {}
            self.best = best if best.get("value") is not None else None
            logger.info(f"the best of this run so far, in {description}: {best.get('value')}")

    def compare(self, trainer: Engine) -> None:
        """Saves the network if the last validation is the best."""
        metrics = self.validator.state.metrics
        name = self.validator.state.key_metric_name if self.metric is None else self.metric
        if name not in metrics:
            raise KeyError(f"the metrics of the validation are {sorted(metrics)}, expected {name!r}")
        value = float(metrics[name])
        if math.isfinite(value) and (self.best is None or value > self.best["value"]):
            self.best = {"metric": name, "value": value, "iteration": trainer.state.iteration}
            self.save(trainer, self.best)
        elif not self.written:  # without a finite value, the first network is saved
            self.save(trainer, {"metric": name, "value": None, "iteration": trainer.state.iteration})

    def end(self, trainer: Engine) -> None:
        """Saves the last network if there has been no validation; logs the result of the run."""
        if not self.written:
            logger.warning(f"no validation in {trainer.state.iteration} iterations: the last network is saved")
            self.save(trainer, {"metric": None, "value": None, "iteration": trainer.state.iteration})
        best = "" if self.best is None else f", best {self.best['metric']} {self.best['value']:.4f}"
        logger.info(f"trained {trainer.state.iteration} iterations{best}; written to {self.directory}")

    def save(self, trainer: Engine, best: dict[str, Any]) -> None:
        """Writes model.pt and model.json of the present network."""
        metrics = {name: finite(value) for name, value in self.validator.state.metrics.items()}
        progress = {"iterations": trainer.state.iteration, "best": best, "metrics": metrics}
        state = unwrapped(self.network).state_dict()
        save_weights(self.directory, {"model.pt": ("network", state)}, progress | self.description)
        self.written = True


def _described_file(weights: str) -> dict[str, Any]:
    """Name, hash and origin of the weights from which a run starts."""
    path = weights_file(weights)
    description = read_json(description_file(weights), "the description of the weights")
    origin = {name: description[name] for name in ("pretext_task", "iterations", "trained_on") if name in description}
    return {"file": path.name, "sha256": sha256(path), **origin}
