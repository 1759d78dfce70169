# SPDX-License-Identifier: Apache-2.0
"""The result of an evaluation on pairs as files: a row for each pair, and the means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine

from ..files import finite
from ..volumes import Image
from .report import Report


class PairReport(Report):
    """Writes pairs.csv (the measures of each pair) and metrics.json (the evaluator's metrics).

    Args:
        directory: where the files go.
        pairs: the pairs by index, with "moving_subject" and "fixed_subject".
        weights: see `Report`.
    """

    table = "pairs.csv"

    def __init__(self, directory: str, pairs: Sequence[Mapping[str, Any]], weights: str | None = None) -> None:
        super().__init__(directory, weights=weights)
        self.pairs = pairs

    def images(self, engine: Engine) -> list[Image]:
        """Paths of the volumes of all pairs, each once."""
        images = {str(pair[side]): pair[side] for pair in self.pairs for side in ("moving", "fixed") if side in pair}
        return list(images.values())

    def collect(self, engine: Engine) -> None:
        """Adds the pairs of a batch; a measure is an output of shape (pairs,)."""
        outputs = engine.state.output.items()
        measures = {name: value for name, value in outputs if torch.is_tensor(value) and value.ndim == 1}
        for row, index in enumerate(engine.state.batch["index"].tolist()):
            names = {name: self.pairs[index][name] for name in ("moving_subject", "fixed_subject")}
            self.cases.append(names | {name: f"{float(value[row]):.6g}" for name, value in measures.items()})

    def rows(self) -> Sequence[Mapping[str, Any]]:
        return self.cases

    def metrics(self, engine: Engine) -> Mapping[str, Any]:
        return {name: finite(value) for name, value in engine.state.metrics.items()}

    def result(self, metrics: Mapping[str, Any]) -> str:
        names = ("loss", "registration_after", "dice_after")
        return ", ".join(f"{name} {metrics[name]:.4f}" for name in names if metrics.get(name) is not None)
