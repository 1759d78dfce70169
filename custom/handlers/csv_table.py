# SPDX-License-Identifier: Apache-2.0
"""Numbers of a run as CSV, with enough digits to compare two runs byte by byte."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from ignite import distributed as idist
from ignite.engine import Engine, Events

from ..files import naming_the_file, write_text


class CsvTable:
    """Writes a row for each training iteration, or for each validation. No times are written, so a seed fixes the file.

    The first column is the iteration of the trainer. When the trainer starts, rows of later iterations are deleted: a
    run that was killed after its last checkpoint computes them again. Attach this handler to a trainer, after the
    handler that loads the checkpoint. Only the first process writes.

    Args:
        path: the CSV file.
        evaluator: write its metrics each time it completes; None for the trainer's output at each iteration.
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
            ValueError: the file has columns of other names.
            OSError: the row cannot be written; the message names the file.
        """
        row = {"iteration": iteration} | {name: f"{value:.9g}" for name, value in values.items()}
        with naming_the_file(self.path, "a row of the table"):
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
        """Deletes the rows after `iteration`, and a last row that is incomplete because the run was killed.

        Raises:
            ValueError: rows of iterations up to `iteration` are missing, or a row is damaged.
        """
        if iteration == 0:
            self.path.unlink(missing_ok=True)
            return
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True) if self.path.exists() else []
        header, *rows = [line for line in lines if line.endswith("\n")] or [""]
        try:
            earlier = [row for row in rows if int(row.split(",")[0]) <= iteration]
        except ValueError as error:
            raise ValueError(f"{self.path} has a damaged row ({error}), expected an iteration first") from error
        if self.evaluator is None and len(earlier) != iteration:
            raise ValueError(
                f"{self.path} has {len(earlier)} rows up to iteration {iteration}, at which the run resumes, expected "
                "one for each: restore the file, or begin a new run without resume"
            )
        if header:
            write_text(self.path, "".join([header, *earlier]), "the table")
        else:  # killed while it wrote the header
            self.path.unlink(missing_ok=True)
