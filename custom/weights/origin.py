# SPDX-License-Identifier: Apache-2.0
"""What weights were trained on, and what must be said of their output."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from ..files import read_json
from .state import description_file, weights_file

SYNTHETIC = "synthetic"
NEVER_SAW_A_PATIENT = (
    "these weights were trained on phantoms and never saw a patient; their output says nothing about a patient"
)


class WeightsOrigin(NamedTuple):
    """Origin of the weights of a run.

    Attributes:
        described: entries for a JSON file: "file", "sha256" and "trained_on".
        notice: a sentence for the log, tables and pictures, or None for weights that were trained on given volumes.
    """

    described: dict[str, Any]
    notice: str | None


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
    notice = NEVER_SAW_A_PATIENT if trained_on == SYNTHETIC else None
    if trained_on is None:
        notice = f"{file} does not say what these weights were trained on (trained_on); they may have seen no patient"
    return WeightsOrigin({"file": path.name, "sha256": digest, "trained_on": trained_on}, notice)
