# SPDX-License-Identifier: Apache-2.0
"""The result of a classification test as files: a row per case, AUC with an interval, ROC, pictures of three cases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events

from ..figures import fullest_plane, planes_figure, roc_figure, save_figure
from ..files import write_json
from ..metrics import bootstrap_auc, rates, roc_auc, roc_curve
from .probability_table import case_name, class_row, write_rows


class ClassificationReport:
    """Writes cases.csv, metrics.json, roc.png, best.png, median.png and worst.png.

    cases.csv: the probability of each class, the most probable and the true one. metrics.json: AUC of the positive
    class against the others with a bootstrap 95 % interval (see `bootstrap_auc`), sensitivity and specificity at
    `threshold`, accuracy of the most probable class. Best and worst case: the highest and the lowest probability
    given to the true class.

    Args:
        directory: made if missing.
        labels: class -> value in the data set, in the order of the network's outputs.
        positive: name of the positive class.
        threshold: probability from which a case counts as positive.
        seed: of the bootstrap. draws: bootstrap samples.
        figures: write the pictures.

    Raises:
        ValueError: `positive` is no class, or (when the evaluation ends) the cases are of one class only.
    """

    def __init__(
        self,
        directory: str,
        labels: Mapping[str, int],
        positive: str,
        threshold: float = 0.5,
        seed: int = 0,
        draws: int = 2000,
        figures: bool = True,
    ) -> None:
        if positive not in labels:
            raise ValueError(f"positive is {positive!r}, expected one of {list(labels)}")
        self.directory = Path(directory)
        self.labels, self.positive = dict(labels), positive
        self.threshold, self.seed, self.draws, self.figures = threshold, seed, draws, figures

    def attach(self, engine: Engine) -> None:
        """Registers on an evaluator, in one process, whose decollated outputs hold image, label and pred.

        image: (1, *spatial); label: one-hot (classes,) or the place of the class; pred: (classes,) probabilities.
        """
        if idist.get_world_size() > 1:
            raise RuntimeError(f"an evaluation is reported by one process, found {idist.get_world_size()}")
        engine.add_event_handler(Events.EPOCH_STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def start(self, engine: Engine) -> None:
        self._rows: list[dict[str, Any]] = []
        self._probabilities: list[np.ndarray] = []
        self._truth: list[int] = []
        self._planes: list[list[np.ndarray]] = []

    def collect(self, engine: Engine) -> None:
        names = list(self.labels)
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            label = torch.as_tensor(output["label"]).reshape(-1)
            truth = int(label.argmax()) if len(label) > 1 else int(label)
            row = class_row(case_name(item, output), output["pred"], self.labels)
            self._rows.append(row | {"true_class": names[truth], "true_value": self.labels[names[truth]]})
            self._probabilities.append(output["pred"].detach().cpu().double().reshape(-1).numpy())
            self._truth.append(truth)
            image = torch.as_tensor(output["image"])[0].detach().float().cpu().numpy()
            self._planes.append([fullest_plane(image, axis).astype(np.float16) for axis in (2, 1, 0)])

    def write(self, engine: Engine) -> None:
        probabilities, truth = np.stack(self._probabilities), np.array(self._truth)
        self.directory.mkdir(parents=True, exist_ok=True)
        write_rows(self.directory / "cases.csv", self._rows)
        content = self.summary(probabilities, truth)
        write_json(self.directory / "metrics.json", content)
        if self.figures:
            self.draw(probabilities, truth, content)

    def summary(self, probabilities: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
        """The content of metrics.json."""
        score, positive = self._score(probabilities, truth)
        names = list(self.labels)
        area = float(roc_auc(score, positive))
        low, high = bootstrap_auc(score, positive, self.draws, seed=self.seed)
        return {
            "cases": len(truth),
            "cases_of": {name: int((truth == place).sum()) for place, name in enumerate(names)},
            "positive": self.positive,
            "auc": area,
            "auc_low": low,
            "auc_high": high,
            "interval": f"95 %, percentiles of {self.draws} bootstrap samples stratified by class, seed {self.seed}",
            "threshold": self.threshold,
            **rates(score, positive, self.threshold),
            "accuracy": float((probabilities.argmax(axis=1) == truth).mean()),
        }

    def draw(self, probabilities: np.ndarray, truth: np.ndarray, content: Mapping[str, Any]) -> None:
        score, positive = self._score(probabilities, truth)
        title = f"AUC {content['auc']:.3f} ({content['auc_low']:.3f} to {content['auc_high']:.3f})"
        save_figure(roc_figure(roc_curve(score, positive), content, title), self.directory / "roc.png")
        given_to_truth = probabilities[np.arange(len(truth)), truth]
        order = np.argsort(-given_to_truth, kind="stable")
        for kind, place in (("best", 0), ("median", len(order) // 2), ("worst", -1)):
            case = order[place]
            row = self._rows[case]
            said = f"{row['true_class']}, probability {given_to_truth[case]:.2f}"
            title = f"{kind} of {len(order)} cases: {row['subject']}, {said}"
            save_figure(planes_figure(self._planes[case], title), self.directory / f"{kind}.png")

    def _score(self, probabilities: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        place = list(self.labels).index(self.positive)
        return probabilities[:, place], truth == place
