# SPDX-License-Identifier: Apache-2.0
"""The result of a segmentation test as files: a row for each case, means and spread, pictures of three cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from ignite.engine import Engine
from matplotlib.figure import Figure
from nibabel.affines import voxel_sizes

from ..data.origin import is_phantom
from ..figures import UNITLESS, GrayScale, Planes, middle_planes, segmentation_figure
from ..metrics import segmentation_measures
from .report import Report, case_file, case_name

OVERALL = "overall"  # in metrics.json, beside the names of the structures


class Case(NamedTuple):
    """A segmented case: its name, its file, its measures (see `segmentation_measures`), its planes."""

    name: str
    file: str
    measures: dict[str, dict[str, float]]
    planes: Planes


class SegmentationReport(Report):
    """Writes cases.csv, metrics.json, best.png, median.png and worst.png.

    cases.csv: Dice and the 95 % Hausdorff distance (mm) of each case, per structure and averaged over the structures.
    metrics.json: mean and (population) standard deviation over the cases, the number of cases in which the value
    exists, and for the Hausdorff distance the number of cases in which the prediction has no voxel of a structure that
    the reference has (the distance does not exist then).

    The outputs of the evaluator hold "image", "label" and "pred", (1, *spatial) each on the grid of the label's file;
    label and pred are indices of classes.

    Args:
        directory: where the files go.
        labels: structure -> value in the data set, in the order of the classes 1 to K.
        centre_lines: report the centre-line Dice (clDice) as well and draw projections, for vessels.
        figures: write the pictures.
        gray_scale: of the images in the pictures.
        weights: see `Report`.

    Raises:
        ValueError: a structure has the name "overall", which metrics.json gives to the mean over the structures.
    """

    cases: list[Case]

    def __init__(
        self,
        directory: str,
        labels: Mapping[str, int],
        centre_lines: bool = False,
        figures: bool = True,
        gray_scale: GrayScale = UNITLESS,
        weights: str | None = None,
    ) -> None:
        if OVERALL in labels:
            raise ValueError(
                f"labels names a structure {OVERALL!r}, expected another name: {OVERALL!r} is the mean over the "
                "structures in metrics.json"
            )
        super().__init__(directory, figures, weights)
        self.centre_lines = centre_lines
        self.gray_scale = gray_scale
        self.structures = {name: index for index, name in enumerate(labels, start=1)}

    def case(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> Case:
        label, prediction = (output[key][0].as_tensor().cpu() for key in ("label", "pred"))
        affine = np.asarray(output["label"].affine, dtype=np.float64)
        spacing = voxel_sizes(affine)
        measures = segmentation_measures(prediction, label, self.structures, spacing, self.centre_lines)
        image = output["image"][0].as_tensor().float().cpu()
        planes = middle_planes(image.numpy(), label.numpy(), prediction.numpy(), affine, self.centre_lines)
        return Case(case_name(item, output["label"]), case_file(output["image"]), measures, planes)

    def rows(self) -> list[dict[str, str]]:
        return [_row(case) for case in self.cases]

    def metrics(self, engine: Engine) -> dict[str, Any]:
        measures = [case.measures for case in self.cases]
        content: dict[str, Any] = {"cases": len(measures)}
        for measure in measures[0]:
            content[measure] = {OVERALL: _statistics([_mean(of_case[measure].values()) for of_case in measures])}
            for name in self.structures:
                content[measure][name] = _statistics([of_case[measure][name] for of_case in measures])
        for name in self.structures:
            content["hausdorff95"][name]["not_found"] = sum(
                int(not np.isnan(of_case["dice"][name]) and np.isnan(of_case["hausdorff95"][name]))
                for of_case in measures
            )
        return content

    def result(self, metrics: Mapping[str, Any]) -> str:
        mean = metrics["dice"][OVERALL]["mean"]
        return "no structure to measure" if mean is None else f"mean Dice {mean:.4f}"

    def draw(self, metrics: Mapping[str, Any]) -> None:
        dice = np.array([_mean(case.measures["dice"].values()) for case in self.cases])

        def figure_of(index: int, title: str) -> Figure:
            case = self.cases[index]
            title = f"{title}: {case.name}, mean Dice {dice[index]:.2f}"
            return segmentation_figure(
                case.planes, self.structures, title, self.gray_scale, synthetic=is_phantom(case.file)
            )

        self.draw_examples(np.argsort(np.nan_to_num(dice, nan=-1.0), kind="stable")[::-1], figure_of)


def _row(case: Case) -> dict[str, str]:
    row = {"subject": case.name, "file": case.file}
    for measure, of_structures in case.measures.items():
        unit = "_mm" if measure == "hausdorff95" else ""
        values = {f"{measure}{unit}": _mean(of_structures.values())}
        values |= {f"{measure}_{name}{unit}": value for name, value in of_structures.items()}
        row |= {name: "" if np.isnan(value) else f"{value:.6g}" for name, value in values.items()}
    return row


def _mean(values: Iterable[float]) -> float:
    """Mean of the values that are not NaN, NaN if there is none."""
    existing = [value for value in values if not np.isnan(value)]
    return float(np.mean(existing)) if existing else float("nan")


def _statistics(values: list[float]) -> dict[str, float | int | None]:
    existing = [value for value in values if not np.isnan(value)]
    return {
        "mean": float(np.mean(existing)) if existing else None,
        "standard_deviation": float(np.std(existing)) if existing else None,
        "cases": len(existing),
    }
