# SPDX-License-Identifier: Apache-2.0
"""What the reports of all evaluations have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite import distributed as idist
from ignite.engine import Engine, Events
from matplotlib.figure import Figure

from ..figures import save_figure
from ..files import write_csv, write_json


class Report:
    """Base of the handlers that write the result of an evaluation as files: a table, metrics.json and pictures.

    A subclass defines `case`, `rows` and `metrics`, and `draw` if it has pictures. `self.cases` holds an entry for each
    case, in the order of the evaluation.

    Args:
        directory: where the files go.
        figures: write the pictures.
    """

    table = "cases.csv"

    def __init__(self, directory: str, figures: bool = False) -> None:
        self.directory = Path(directory)
        self.figures = figures

    def attach(self, engine: Engine) -> None:
        """Registers on an evaluator with decollated outputs, after the handlers that fill its metrics.

        Raises:
            RuntimeError: the evaluation runs in several processes; each would report only its own cases.
        """
        if idist.get_world_size() > 1:
            raise RuntimeError(f"an evaluation is reported by one process, found {idist.get_world_size()}")
        engine.add_event_handler(Events.EPOCH_STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def start(self, engine: Engine) -> None:
        self.cases: list[Any] = []

    def collect(self, engine: Engine) -> None:
        """Adds the cases of a batch."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            self.cases.append(self.case(item, output))

    def write(self, engine: Engine) -> None:
        """Writes all files."""
        write_csv(self.directory / self.table, self.rows(), what="the table of cases")
        metrics = self.metrics(engine)
        write_json(self.directory / "metrics.json", metrics, what="the metrics")
        if self.figures:
            self.draw(metrics)

    def case(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> Any:
        """What is stored of a case.

        Args:
            item: the case from the loader.
            output: what the evaluator made of it, with the predictions.
        """
        raise NotImplementedError

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """The table, one row a case."""
        raise NotImplementedError

    def metrics(self, engine: Engine) -> Mapping[str, Any]:
        """The content of metrics.json."""
        raise NotImplementedError

    def draw(self, metrics: Mapping[str, Any]) -> None:
        """Writes the pictures."""

    def draw_examples(self, order: Sequence[int], figure_of: Callable[[int, str], Figure]) -> None:
        """Writes best.png, median.png and worst.png.

        Args:
            order: indices into `cases`, the best case first.
            figure_of: returns the picture from the index of a case and the start of its title.
        """
        for kind, index in (("best", order[0]), ("median", order[len(order) // 2]), ("worst", order[-1])):
            save_figure(figure_of(index, f"{kind} of {len(order)} cases"), self.directory / f"{kind}.png")


def case_name(item: Mapping[str, Any], volume: Any) -> str:
    """The subject of a case or, if it has none, the file name of a volume.

    Args:
        item: the case from the loader.
        volume: a MetaTensor that was read from a file.
    """
    meta = getattr(volume, "meta", {})
    return str(item.get("subject", os.path.basename(str(meta.get("filename_or_obj", "")))))
