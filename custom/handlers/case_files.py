# SPDX-License-Identifier: Apache-2.0
"""What inference writes for its cases, and the report of a run."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from ..data.output_names import ARE_LABELS, earlier_outputs, refuse_replacing_inputs, refuse_replacing_neighbours
from ..files import set_aside, write_json
from ..volumes import paths_of
from ..weights import origin_of

logger = logging.getLogger(__name__)
REPORT = "report.json"


class CaseFiles:
    """Base of the handlers that write the output of inference. A subclass defines `output_of` and `write_case`.

    report.json holds the weights and what they were trained on, the notice about them if there is one (it is logged
    too), the output file of each case, and the failures. It is written at the start, with "finished" false, and at the
    end. Output of an earlier run in the same folder is moved to earlier/NUMBER; other files stay.

    Args:
        directory: where the files go.
        data: the items, see `custom.data.inference_data`.
        weights: file or folder of the weights.

    Raises (when the run starts):
        ValueError: an output file is an input file, too, or lies beside one and no earlier run wrote it.
    """

    are_labels = False  # whether the files are label maps to train on, which a data set does not leave out

    def __init__(self, directory: str, data: Sequence[Mapping[str, Any]], weights: str) -> None:
        self.directory = Path(directory)
        self.data = data
        self.weights = weights

    def attach(self, engine: Engine) -> None:
        """Registers on an evaluator with decollated outputs, which may have a `CaseLoader`."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: Engine) -> None:
        """Moves the output of an earlier run away, and writes the first report."""
        self.cases: list[dict[str, Any]] = []
        self.origin = origin_of(self.weights)
        planned = {self.output_of(item) for item in self.data}
        inputs = {os.path.realpath(path) for path in self.inputs(engine)}
        refuse_replacing_inputs(self.directory, planned, inputs)
        earlier = earlier_outputs(self.directory)
        refuse_replacing_neighbours(self.directory, planned, inputs, earlier)
        replaced = {*planned, *earlier, REPORT}
        set_aside(self.directory, [name for name in replaced if os.path.realpath(self.directory / name) not in inputs])
        if self.origin.notice:
            logger.warning(self.origin.notice)
        self.report({"outputs": sorted(planned), "finished": False})

    def collect(self, engine: Engine) -> None:
        """Writes the cases of a batch."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            self.cases.append({"subject": item.get("subject"), "case": item["output"], "file": self.output_of(item)})
            self.write_case(item, output)

    def finish(self, engine: Engine) -> None:
        """Writes the last report."""
        failures = [failure._asdict() for failure in getattr(engine.data_loader, "failures", [])]
        outputs = sorted({case["file"] for case in self.cases})
        self.report({"outputs": outputs, "finished": True, "cases": self.cases, "failures": failures})
        logger.info(f"wrote {len(self.cases)} cases to {self.directory}")

    def report(self, content: Mapping[str, Any]) -> None:
        notice = {"notice": self.origin.notice} if self.origin.notice else {}
        report = {"weights": self.origin.described, **notice, ARE_LABELS: self.are_labels, **content}
        write_json(self.directory / REPORT, report, "the report of the run")

    def inputs(self, engine: Engine) -> list[str]:
        """Paths of the files that are read, none of which may be replaced or moved."""
        return [path for item in self.data for path in paths_of(item["image"])]

    def output_of(self, item: Mapping[str, Any]) -> str:
        """Path below `directory` of the file that holds the output of a case."""
        raise NotImplementedError

    def write_case(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> None:
        """Writes the output of a case.

        Args:
            item: the case from the loader.
            output: what the evaluator made of it, with "pred".
        """
        raise NotImplementedError
