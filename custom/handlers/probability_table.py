# SPDX-License-Identifier: Apache-2.0
"""The probabilities that a classifier gives to each case, as CSV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine

from ..files import write_csv
from .report import Report, case_name


class ProbabilityTable(Report):
    """Writes a row for each case: subject, probability of each class, the most probable class and its value.

    The outputs of the evaluator hold "pred", (classes,) probabilities.

    Args:
        path: the CSV file.
        labels: class -> value in the data set, in the order of the network's outputs.
    """

    def __init__(self, path: str, labels: Mapping[str, int]) -> None:
        super().__init__(str(Path(path).parent))
        self.table = Path(path).name
        self.labels = dict(labels)

    def case(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> dict[str, Any]:
        return class_row(case_name(item, output.get("image")), output["pred"], self.labels)

    def write(self, engine: Engine) -> None:
        """Writes the table alone."""
        write_csv(self.directory / self.table, self.cases, what="the table of probabilities")


def class_row(name: str, probabilities: torch.Tensor, labels: Mapping[str, int]) -> dict[str, Any]:
    """A row of the table.

    Args:
        name: of the case.
        probabilities: (classes,).
        labels: class -> value in the data set, in the order of the probabilities.

    Raises:
        ValueError: there are more or fewer probabilities than classes.
    """
    values = probabilities.detach().cpu().double().reshape(-1).tolist()
    if len(values) != len(labels):
        raise ValueError(f"{name}: {len(values)} probabilities for the classes {list(labels)}, expected one for each")
    best = list(labels)[values.index(max(values))]
    named = {f"probability_{label}": f"{value:.6g}" for label, value in zip(labels, values, strict=True)}
    return {"subject": name, **named, "class": best, "value": labels[best]}
