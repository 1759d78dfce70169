# SPDX-License-Identifier: Apache-2.0
"""Loss curves of a run."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure


def loss_figure(training: Path, validation: Path | None = None, metrics: Sequence[str] = ()) -> Figure:
    """Loss terms against iterations, from the CSV tables of a run; values of the validation are dots.

    Args:
        training: table of the training, a plot for each of its columns.
        validation: table of the validation; None, or a file that does not exist, if there is none.
        metrics: columns of the validation that are drawn in plots of their own.
    """
    columns = read_table(training)
    iterations = columns.pop("iteration")
    held_out = read_table(validation) if validation is not None and validation.exists() else {}
    measured = {name: held_out[name] for name in metrics if name in held_out}
    figure = Figure(figsize=(4 * (len(columns) + len(measured)), 3.5), layout="constrained")
    plots = list(figure.subplots(1, len(columns) + len(measured), squeeze=False)[0])
    for plot, (name, values) in zip(plots[len(columns) :], measured.items(), strict=True):
        plot.plot(held_out["iteration"], values, "o-", color="tab:orange")
        plot.set(title=name, xlabel="iteration")
    for plot, (name, values) in zip(plots[: len(columns)], columns.items(), strict=True):
        width = max(len(values) // 50, 1)
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        plot.plot(iterations, values, color="tab:blue", alpha=0.25, linewidth=0.8)
        plot.plot(iterations[width - 1 :], smooth, color="tab:blue", label="training")
        if name in held_out:
            plot.plot(held_out["iteration"], held_out[name], "o-", color="tab:orange", label="held out")
        plot.set(title=name, xlabel="iteration")
        plot.legend()
    return figure


def read_table(path: Path) -> dict[str, np.ndarray]:
    """The columns of a CSV table of numbers."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in (rows[0] if rows else {})}
