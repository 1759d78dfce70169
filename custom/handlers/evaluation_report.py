# SPDX-License-Identifier: Apache-2.0
"""The result of an evaluation as files: a row per pair, and the means."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events

from ..files import write_json


class EvaluationReport:
    """Writes pairs.csv (what was measured of each pair) and metrics.json (the evaluator's metrics).

    Args:
        directory: made if missing.
        pairs: the pairs by index, with "moving_subject" and "fixed_subject".
    """

    def __init__(self, directory: str, pairs: Sequence[Mapping[str, Any]]) -> None:
        self.directory = Path(directory)
        self.pairs = pairs

    def attach(self, engine: Engine) -> None:
        """Registers on an evaluator, after the handlers that fill its metrics; one process only."""
        if idist.get_world_size() > 1:
            raise RuntimeError(f"an evaluation is reported by one process, found {idist.get_world_size()}")
        engine.add_event_handler(Events.EPOCH_STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def start(self, engine: Engine) -> None:
        self._rows: list[dict[str, Any]] = []

    def collect(self, engine: Engine) -> None:
        measured = {
            name: value for name, value in engine.state.output.items() if torch.is_tensor(value) and value.ndim == 1
        }
        for row, index in enumerate(engine.state.batch["index"].tolist()):
            names = {name: self.pairs[index][name] for name in ("moving_subject", "fixed_subject")}
            self._rows.append(names | {name: f"{float(value[row]):.6g}" for name, value in measured.items()})

    def write(self, engine: Engine) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "pairs.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self._rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(self._rows)
        write_json(self.directory / "metrics.json", engine.state.metrics)
