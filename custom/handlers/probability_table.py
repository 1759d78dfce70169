# SPDX-License-Identifier: Apache-2.0
"""The probabilities that a classifier gives to each case, as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine

from ..files import write_csv
from .case_files import CaseFiles


class ProbabilityTable(CaseFiles):
    """Writes a row for each case, as soon as it is computed: subject, path, probability of each class, class, value.

    Weights that were not trained on volumes of a user give no probabilities and no class, but scores and the notice;
    see `class_row`. The outputs of the evaluator hold "pred", (classes,) probabilities.

    Args:
        path: the CSV file.
        data: see `CaseFiles`.
        weights: see `CaseFiles`.
        labels: class -> value in the data set, in the order of the network's outputs.
    """

    def __init__(self, path: str, data: Sequence[Mapping[str, Any]], weights: str, labels: Mapping[str, int]) -> None:
        super().__init__(str(Path(path).parent), data, weights)
        self.path = Path(path)
        self.labels = dict(labels)

    def start(self, engine: Engine) -> None:
        self.rows: list[dict[str, Any]] = []
        super().start(engine)

    def output_of(self, item: Mapping[str, Any]) -> str:
        return self.path.name

    def write_case(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        names = {"subject": item.get("subject", item["output"]), "case": item["output"]}
        self.rows.append(names | class_row(item["output"], output["pred"], self.labels, self.origin.notice))
        write_csv(self.path, self.rows, what="the table of probabilities")


def class_row(
    name: str, probabilities: torch.Tensor, labels: Mapping[str, int], notice: str | None = None
) -> dict[str, Any]:
    """The part of a row that a classifier gives.

    Args:
        name: of the case, for the message.
        probabilities: (classes,).
        labels: class -> value in the data set, in the order of the probabilities.
        notice: why the numbers are no probabilities (`custom.weights.origin_of`), or None.

    Returns:
        "probability_CLASS" of each class, "class" and "value" of the most probable one; with a notice "score_CLASS" of
        each class and "notice" instead, because a class would be read as a diagnosis.

    Raises:
        ValueError: there are more or fewer probabilities than classes.
    """
    values = probabilities.detach().cpu().double().reshape(-1).tolist()
    if len(values) != len(labels):
        raise ValueError(f"{name}: {len(values)} probabilities for the classes {list(labels)}, expected one for each")
    kind = "probability" if notice is None else "score"
    named = {f"{kind}_{label}": f"{value:.6g}" for label, value in zip(labels, values, strict=True)}
    if notice is not None:
        return named | {"notice": notice}
    best = list(labels)[values.index(max(values))]
    return named | {"class": best, "value": labels[best]}
