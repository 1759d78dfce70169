# SPDX-License-Identifier: Apache-2.0
"""The result of a classification test as files: a row for each case, AUC with an interval, ROC, three pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from ignite.engine import Engine
from matplotlib.figure import Figure
from monai.data import MetaTensor
from nibabel.affines import voxel_sizes

from ..data.origin import is_phantom
from ..figures import UNITLESS, GrayScale, OrganPlanes, organ_planes, planes_figure, roc_figure, save_figure
from ..metrics import bootstrap_auc, rates, roc_auc, roc_curve
from .probability_table import class_row
from .report import Report, case_file, case_name


class Case(NamedTuple):
    """A classified case.

    Attributes:
        row: of cases.csv.
        probabilities: (classes,).
        truth: index of the true class.
        planes: of the picture; None if none is drawn.
    """

    row: dict[str, Any]
    probabilities: np.ndarray
    truth: int
    planes: OrganPlanes | None


class ClassificationReport(Report):
    """Writes cases.csv, metrics.json, roc.png, best.png, median.png and worst.png.

    cases.csv: subject, file, the probability of each class, the most probable and the true class. With a notice about
    the weights it has scores and the notice instead of probabilities and the most probable class, see `class_row`.
    metrics.json: AUC of the positive class against the others with a bootstrap 95 % interval (see `bootstrap_auc`),
    sensitivity and specificity at `threshold`, accuracy of the most probable class. Best and worst case: the highest
    and the lowest probability of the true class.

    The outputs of the evaluator hold "image", (1, *spatial), a MetaTensor if pictures are drawn; "label", one-hot
    (classes,) or the index of the class; "pred", (classes,) probabilities.

    Args:
        directory: where the files go.
        labels: class -> value in the data set, in the order of the network's outputs.
        positive: name of the positive class.
        threshold: probability from which a case counts as positive.
        seed: of the bootstrap.
        draws: number of bootstrap samples.
        figures: write the pictures.
        gray_scale: of the images in the pictures.
        weights: see `Report`.

    Raises:
        ValueError: `positive` is not among the labels, or (at the end of the evaluation) all cases are of one class.
    """

    cases: list[Case]
    others = (*Report.others, "roc.png")

    def __init__(
        self,
        directory: str,
        labels: Mapping[str, int],
        positive: str,
        threshold: float = 0.5,
        seed: int = 0,
        draws: int = 2000,
        figures: bool = True,
        gray_scale: GrayScale = UNITLESS,
        weights: str | None = None,
    ) -> None:
        if positive not in labels:
            raise ValueError(f"positive is {positive!r}, expected one of {list(labels)}")
        super().__init__(directory, figures, weights)
        self.labels, self.positive = dict(labels), positive
        self.gray_scale = gray_scale
        self.threshold, self.seed, self.draws = threshold, seed, draws

    def case(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> Case:
        label = torch.as_tensor(output["label"]).reshape(-1)
        truth = int(label.argmax()) if len(label) > 1 else int(label)
        name = list(self.labels)[truth]
        subject = case_name(item, output.get("image"))
        row = {"subject": subject, "file": case_file(output.get("image"))}
        row |= class_row(subject, output["pred"], self.labels, self.origin.notice)
        return Case(
            row | {"true_class": name, "true_value": self.labels[name]},
            output["pred"].detach().cpu().double().reshape(-1).numpy(),
            truth,
            planes_of(output["image"]) if self.figures else None,
        )

    def rows(self) -> list[dict[str, Any]]:
        return [case.row for case in self.cases]

    def metrics(self, engine: Engine) -> dict[str, Any]:
        score, positive = self._score()
        truth = [case.truth for case in self.cases]
        area = float(roc_auc(score, positive))
        low, high = bootstrap_auc(score, positive, self.draws, seed=self.seed)
        return {
            "cases": len(truth),
            "cases_of": {name: truth.count(index) for index, name in enumerate(self.labels)},
            "positive": self.positive,
            "auc": area,
            "auc_low": low,
            "auc_high": high,
            "interval": f"95 %, percentiles of {self.draws} bootstrap samples stratified by class, seed {self.seed}",
            "threshold": self.threshold,
            **rates(score, positive, self.threshold),
            "accuracy": float(np.mean([case.probabilities.argmax() == case.truth for case in self.cases])),
        }

    def result(self, metrics: Mapping[str, Any]) -> str:
        return f"AUC {metrics['auc']:.4f} (95 % interval {metrics['auc_low']:.4f} to {metrics['auc_high']:.4f})"

    def draw(self, metrics: Mapping[str, Any]) -> None:
        interval = f"95 % interval {metrics['auc_low']:.2f} to {metrics['auc_high']:.2f}"
        title = self.titled(f"AUC {metrics['auc']:.2f} ({interval}), {len(self.cases)} cases")
        synthetic = [is_phantom(case.row["file"]) for case in self.cases]
        figure = roc_figure(roc_curve(*self._score()), metrics, title, any(synthetic))
        save_figure(figure, self.directory / "roc.png")
        probability_of_truth = np.array([case.probabilities[case.truth] for case in self.cases])

        def figure_of(index: int, title: str) -> Figure:
            case = self.cases[index]
            wrong = case.probabilities.argmax() != case.truth
            kind = "score" if self.origin.notice else "probability"
            named = f"{case.row['subject']}, {case.row['true_class']}, {kind} {probability_of_truth[index]:.2f}"
            title = f"{title}: {named}{', misclassified' if wrong else ''}"
            return planes_figure(case.planes, title, self.gray_scale, wrong, synthetic[index])

        self.draw_examples(np.argsort(-probability_of_truth, kind="stable"), figure_of)

    def _score(self) -> tuple[np.ndarray, np.ndarray]:
        """Probability of the positive class, and whether the case is positive; (cases,) each."""
        index = list(self.labels).index(self.positive)
        score = np.array([case.probabilities[index] for case in self.cases])
        return score, np.array([case.truth == index for case in self.cases])


def planes_of(image: MetaTensor) -> OrganPlanes:
    """The planes of an image (1, *spatial) that are drawn."""
    return organ_planes(image[0].detach().float().cpu().numpy(), voxel_sizes(np.asarray(image.affine)))
