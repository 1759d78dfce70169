# SPDX-License-Identifier: Apache-2.0
"""What weights were trained on, and what must be said of their output."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..files import read_json
from .state import description_file, weights_file

SYNTHETIC = "synthetic"
ON_PHANTOMS_ALONE = (
    "these weights were trained for this task on phantoms alone; their output says nothing about a patient"
)


class WeightsOrigin(NamedTuple):
    """Origin of the weights of a run.

    Attributes:
        described: entries for a JSON file: "folder", "file", "sha256", "task", "iterations" and "trained_on".
        notice: a sentence for the log, tables and pictures, or None for weights that were trained on given volumes.
    """

    described: dict[str, Any]
    notice: str | None

    def but_for(self, also: str | None) -> WeightsOrigin:
        """The same with another sentence in the notice, if there is one."""
        return self if also is None else self._replace(notice=f"{self.notice}; {also}" if self.notice else also)


def origin_of(weights: str | os.PathLike) -> WeightsOrigin:
    """Read from the description of weights what they were trained on.

    Args:
        weights: a file NAME.pt beside its description, or a folder with model.pt and model.json.

    Raises:
        FileNotFoundError: the description does not exist.
        ValueError: the description is no JSON object.
    """
    path, file = weights_file(weights), description_file(weights)
    description = read_json(file, "the description of the weights")
    trained_on = description.get("trained_on")
    digest = description.get("files", {}).get(path.name, {}).get("sha256")
    progress = {"task": task_of(description), "iterations": description.get("iterations")}
    notice = ON_PHANTOMS_ALONE if trained_on == SYNTHETIC else None
    if trained_on is None:
        notice = f"{file} does not say what these weights were trained on (trained_on); it may be phantoms alone"
    described = {"folder": str(path.parent), "file": path.name, "sha256": digest, **progress, "trained_on": trained_on}
    return WeightsOrigin(described, notice)


def task_of(description: Mapping[str, Any]) -> Any:
    """The task of a downstream run, or the pretext task of pre-training."""
    return description.get("task", description.get("pretext_task"))


def trained_or_shipped(bundle_root: str) -> str:
    """The weights of a bundle: those of the last run in output/, or those in models/ if output/ has no model.json.

    Args:
        bundle_root: folder of the bundle.

    Returns:
        The folder of the weights.
    """
    trained = os.path.join(bundle_root, "output")
    return trained if os.path.isfile(os.path.join(trained, "model.json")) else os.path.join(bundle_root, "models")
