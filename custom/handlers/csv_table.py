# SPDX-License-Identifier: Apache-2.0
"""Numbers of a run as CSV, exact enough that two runs can be compared byte by byte."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path

from ignite import distributed as idist
from ignite.engine import Engine, Events


class CsvTable:
    """One row per training iteration, or per validation; times are left out, so one seed gives one file.

    The first column is the iteration of the trainer. When the trainer starts (again), rows beyond its iteration are
    dropped: what a killed run wrote after its last checkpoint is computed anew. Attach it to a trainer, after the
    handler that loads the checkpoint. Only the first process writes.

    Args:
        path: the CSV file.
        evaluator: rows hold its metrics, one each time it completes; None for the trainer's output at each iteration.
    """

    def __init__(self, path: str, evaluator: Engine | None = None) -> None:
        self.path = Path(path)
        self.evaluator = evaluator

    def attach(self, trainer: Engine) -> None:
        """Registers on a trainer."""
        if idist.get_rank() > 0:
            return
        trainer.add_event_handler(Events.STARTED, lambda engine: self.drop_after(engine.state.iteration))
        if self.evaluator is None:
            trainer.add_event_handler(
                Events.ITERATION_COMPLETED, lambda engine: self.append(engine.state.iteration, engine.state.output)
            )
        else:
            self.evaluator.add_event_handler(
                Events.COMPLETED, lambda engine: self.append(trainer.state.iteration, engine.state.metrics)
            )

    def append(self, iteration: int, values: Mapping[str, float]) -> None:
        """Adds a row, and a header to a new file.

        Raises:
            ValueError: where the file has columns of other names.
        """
        row = {"iteration": iteration} | {name: f"{value:.9g}" for name, value in values.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.path.exists()
        if not new:
            with self.path.open(encoding="utf-8", newline="") as file:
                columns = next(csv.reader(file))
            if columns != list(row):
                raise ValueError(f"{self.path} has the columns {columns}, a new row has {list(row)}")
        with self.path.open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, row, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)

    def drop_after(self, iteration: int) -> None:
        """Keeps the rows up to `iteration`; a row cut short by a kill is dropped as well."""
        if iteration == 0:
            self.path.unlink(missing_ok=True)
        if not self.path.exists():
            return
        whole = [
            line for line in self.path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")
        ]
        if not whole:  # killed while it wrote the header
            self.path.unlink()
            return
        header, *rows = whole
        kept = [row for row in rows if int(row.split(",")[0]) <= iteration]
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text("".join([header, *kept]), encoding="utf-8")
        os.replace(temporary, self.path)
