# SPDX-License-Identifier: Apache-2.0
"""The result of a segmentation test as files: a row per case, means and spread, pictures of three cases."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ignite import distributed as idist
from ignite.engine import Engine, Events
from nibabel.affines import voxel_sizes

from ..figures import Planes, middle_planes, save_figure, segmentation_figure
from ..files import write_json
from ..metrics import segmentation_measures


class SegmentationReport:
    """Writes cases.csv, metrics.json, best.png, median.png and worst.png.

    cases.csv: Dice and the 95 % Hausdorff distance (mm) of each case, per structure and averaged over the structures.
    metrics.json: mean and (population) standard deviation over the cases, in how many cases the value exists, and of
    the Hausdorff distance also how often a structure of the reference was not found at all (it then has no distance).

    Args:
        directory: made if missing.
        labels: structure -> value in the data set, in the order of the classes 1 to K.
        centre_lines: report the centre-line Dice (clDice) as well and draw projections, for vessels.
        figures: write the pictures.
    """

    def __init__(
        self, directory: str, labels: Mapping[str, int], centre_lines: bool = False, figures: bool = True
    ) -> None:
        self.directory = Path(directory)
        self.centre_lines = centre_lines
        self.figures = figures
        self.structures = {name: place for place, name in enumerate(labels, start=1)}

    def attach(self, engine: Engine) -> None:
        """Registers on an evaluator, in one process, whose decollated outputs hold "image", "label" and "pred".

        All three are (1, *spatial) on the grid of the label's file; label and pred are classes.
        """
        if idist.get_world_size() > 1:
            raise RuntimeError(f"an evaluation is reported by one process, found {idist.get_world_size()}")
        engine.add_event_handler(Events.EPOCH_STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def start(self, engine: Engine) -> None:
        self._cases: list[tuple[str, dict[str, dict[str, float]], Planes]] = []

    def collect(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            label, prediction = (output[key][0].as_tensor().cpu() for key in ("label", "pred"))
            affine = np.asarray(output["label"].affine, dtype=np.float64)
            spacing = voxel_sizes(affine)
            measures = segmentation_measures(prediction, label, self.structures, spacing, self.centre_lines)
            image = output["image"][0].as_tensor().float().cpu()
            planes = middle_planes(image.numpy(), label.numpy(), prediction.numpy(), affine, self.centre_lines)
            name = item.get("subject", os.path.basename(str(output["label"].meta["filename_or_obj"])))
            self._cases.append((str(name), measures, planes))

    def write(self, engine: Engine) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        rows = [_row(name, measures) for name, measures, _ in self._cases]
        with (self.directory / "cases.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        write_json(self.directory / "metrics.json", self.summary())
        if self.figures:
            self.draw()

    def summary(self) -> dict[str, Any]:
        """The content of metrics.json."""
        measures = [of_case for _, of_case, _ in self._cases]
        content: dict[str, Any] = {"cases": len(measures)}
        for measure in measures[0]:
            content[measure] = {"overall": _statistics([_mean(of_case[measure].values()) for of_case in measures])}
            for name in self.structures:
                content[measure][name] = _statistics([of_case[measure][name] for of_case in measures])
        for name in self.structures:
            content["hausdorff95"][name]["not_found"] = sum(
                int(not np.isnan(of_case["dice"][name]) and np.isnan(of_case["hausdorff95"][name]))
                for of_case in measures
            )
        return content

    def draw(self) -> None:
        dice = np.array([_mean(measures["dice"].values()) for _, measures, _ in self._cases])
        order = np.argsort(np.nan_to_num(dice, nan=-1.0), kind="stable")[::-1]
        chosen = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
        figures = {place: segmentation_figure(self._cases[place][2], self.structures) for place in set(chosen.values())}
        for kind, place in chosen.items():
            title = f"{kind} of {len(order)} cases: {self._cases[place][0]}, mean Dice {dice[place]:.3f}"
            figures[place].suptitle(title)
            save_figure(figures[place], self.directory / f"{kind}.png")


def _row(subject: str, measures: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    row = {"subject": subject}
    for measure in measures:
        unit = "_mm" if measure == "hausdorff95" else ""
        values = {f"{measure}{unit}": _mean(measures[measure].values())}
        values |= {f"{measure}_{name}{unit}": value for name, value in measures[measure].items()}
        row |= {name: "" if np.isnan(value) else f"{value:.6g}" for name, value in values.items()}
    return row


def _mean(values: Any) -> float:
    """Mean of the values that exist, NaN where none does."""
    existing = [value for value in values if not np.isnan(value)]
    return float(np.mean(existing)) if existing else float("nan")


def _statistics(values: list[float]) -> dict[str, float | int | None]:
    existing = [value for value in values if not np.isnan(value)]
    return {
        "mean": float(np.mean(existing)) if existing else None,
        "standard_deviation": float(np.std(existing)) if existing else None,
        "cases": len(existing),
    }
