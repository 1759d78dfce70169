# SPDX-License-Identifier: Apache-2.0
"""What the reports of all evaluations have in common."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence, Sized
from pathlib import Path
from textwrap import fill
from typing import Any

from ignite import distributed as idist
from ignite.engine import Engine, Events
from matplotlib.figure import Figure

from ..data import seen_in_training
from ..figures import save_figure
from ..files import set_aside, write_csv, write_json
from ..volumes import Image, file_name, image_name
from ..weights import WeightsOrigin, origin_of

logger = logging.getLogger(__name__)
TITLE_WIDTH = 60  # characters that fit on the smallest picture


class Report:
    """Base of the handlers that write the result of an evaluation as files: a table, metrics.json and pictures.

    A subclass defines `case`, `rows`, `metrics` and `result`, and `draw` if it has pictures. `self.cases` holds an
    entry for each case, in the order of the evaluation. A notice about the weights (`origin_of`) goes into the log,
    metrics.json and the titles of the pictures. Files of an earlier evaluation in the folder are moved to
    earlier/NUMBER.

    Args:
        directory: where the files go.
        figures: write the pictures.
        weights: file or folder of the weights; None says nothing about them.
    """

    table = "cases.csv"
    others = ("metrics.json", "best.png", "median.png", "worst.png", "figures")

    def __init__(self, directory: str, figures: bool = False, weights: str | None = None) -> None:
        self.directory = Path(directory)
        self.figures = figures
        self.weights = weights
        self.origin = WeightsOrigin({}, None)

    def attach(self, engine: Engine) -> None:
        """Registers on an evaluator with decollated outputs, after the handlers that fill its metrics.

        Raises:
            RuntimeError: the evaluation runs in several processes; each would report only its own cases.
            ValueError: there is nothing to evaluate.
        """
        loader = getattr(engine, "data_loader", None)
        cases = getattr(loader, "dataset", loader)
        if isinstance(cases, Sized) and len(cases) == 0:
            raise ValueError(
                "no cases to evaluate, expected test volumes with labels: the list test of dataset.json has no labels, "
                "or test_share is 0"
            )
        if idist.get_world_size() > 1:
            raise RuntimeError(f"an evaluation is reported by one process, found {idist.get_world_size()}")
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def start(self, engine: Engine) -> None:
        """Moves the files of an earlier evaluation away and reads what the weights were trained on."""
        self.cases: list[Any] = []
        set_aside(self.directory, (self.table, *self.others))
        if self.weights is not None:
            self.origin = origin_of(self.weights)
            self.origin = self.origin.but_for(self.seen(engine))
        if self.origin.notice:
            logger.warning(self.origin.notice)

    def seen(self, engine: Engine) -> str | None:
        """A sentence about evaluated volumes on which these weights were trained; None if there are none."""
        images = self.images(engine)
        seen = seen_in_training(self.weights, images)
        if not seen:
            return None
        return (
            f"{len(seen)} of {len(images)} evaluated volumes are training volumes of these weights, such as "
            f"{image_name(seen[0])}: the result is too good"
        )

    def images(self, engine: Engine) -> list[Image]:
        """Paths of the volumes that are evaluated."""
        dataset = getattr(getattr(engine, "data_loader", None), "dataset", None)
        return [item["image"] for item in getattr(dataset, "data", [])]

    def collect(self, engine: Engine) -> None:
        """Adds the cases of a batch."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            self.cases.append(self.case(item, output))

    def write(self, engine: Engine) -> None:
        """Writes all files, if there are cases with a result."""
        if not self.cases:
            return
        write_csv(self.directory / self.table, self.rows(), what="the table of cases")
        metrics = self.metrics(engine)
        described = {"weights": self.origin.described} if self.weights is not None else {}
        notice = {"notice": self.origin.notice} if self.origin.notice else {}
        write_json(self.directory / "metrics.json", {**described, **notice, **metrics}, what="the metrics")
        if self.figures:
            self.draw(metrics)
        logger.info(f"evaluated {len(self.cases)} cases: {self.result(metrics)}; written to {self.directory}")

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

    def result(self, metrics: Mapping[str, Any]) -> str:
        """The most important metrics, for the log."""
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
            title = self.titled(f"{kind} of {len(order)} cases")
            save_figure(figure_of(index, title), self.directory / f"{kind}.png")

    def titled(self, title: str) -> str:
        """A title of a picture, below the notice about the weights if there is one."""
        return f"{fill(self.origin.notice, TITLE_WIDTH)}\n{title}" if self.origin.notice else title


def case_name(item: Mapping[str, Any], volume: Any) -> str:
    """The subject of a case or, if it has none, the file name of a volume.

    Args:
        item: the case from the loader.
        volume: a MetaTensor that was read from a file.
    """
    return str(item.get("subject", os.path.basename(case_file(volume))))


def case_file(volume: Any) -> str:
    """The file of a MetaTensor, which tells several volumes of a subject apart; "" for values without a file."""
    return file_name(volume, "")
