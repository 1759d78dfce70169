# SPDX-License-Identifier: Apache-2.0
"""What a classifier says of each case, as CSV."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events


class ProbabilityTable:
    """Writes a row per case: subject, probability of each class, the most probable class and its value.

    Args:
        path: the CSV file.
        labels: class -> value in the data set, in the order of the network's outputs.
    """

    def __init__(self, path: str, labels: Mapping[str, int]) -> None:
        self.path = Path(path)
        self.labels = dict(labels)

    def attach(self, engine: Engine) -> None:
        """Registers on an evaluator, in one process, whose decollated outputs hold "pred": (classes,) probabilities."""
        if idist.get_world_size() > 1:
            raise RuntimeError(f"a table is written by one process, found {idist.get_world_size()}")
        engine.add_event_handler(Events.EPOCH_STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def start(self, engine: Engine) -> None:
        self._rows: list[dict[str, Any]] = []

    def collect(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            self._rows.append(class_row(case_name(item, output), output["pred"], self.labels))

    def write(self, engine: Engine) -> None:
        write_rows(self.path, self._rows)


def case_name(item: Mapping[str, Any], output: Mapping[str, Any]) -> str:
    """The subject of a case or, without one, the file name of its image."""
    meta = getattr(output.get("image"), "meta", {})
    return str(item.get("subject", os.path.basename(str(meta.get("filename_or_obj", "")))))


def class_row(name: str, probabilities: torch.Tensor, labels: Mapping[str, int]) -> dict[str, Any]:
    """One row of the table.

    Raises:
        ValueError: as many probabilities as classes are expected.
    """
    found = probabilities.detach().cpu().double().reshape(-1).tolist()
    if len(found) != len(labels):
        raise ValueError(f"{name}: {len(found)} probabilities for the classes {list(labels)}, expected one for each")
    best = list(labels)[found.index(max(found))]
    named = {f"probability_{label}": f"{value:.6g}" for label, value in zip(labels, found, strict=True)}
    return {"subject": name, **named, "class": best, "value": labels[best]}


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """CSV with a header; nothing but the header's columns may differ between rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0] if rows else ["subject"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
