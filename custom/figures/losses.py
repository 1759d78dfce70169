# SPDX-License-Identifier: Apache-2.0
"""Loss curves of a run."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .colors import BLUE, VERMILION, in_words
from .planes import SYNTHETIC

COLUMNS = 3  # of plots
WIDE = 20  # a term whose largest value is so many times its smallest has a logarithmic axis


def loss_figure(
    training: Path, validation: Path | None = None, metrics: Sequence[str] = (), synthetic: bool = False
) -> Figure:
    """Loss terms against iterations, from the CSV tables of a run; values of the validation are dots.

    Args:
        training: table of the training, a plot for each of its columns.
        validation: table of the validation; None, or a file that does not exist, if there is none.
        metrics: columns of the validation that are drawn in plots of their own.
        synthetic: whether the training volumes are phantoms.
    """
    columns = read_table(training)
    iterations = columns.pop("iteration")
    held_out = read_table(validation) if validation is not None and validation.exists() else {}
    names = [*columns, *(name for name in metrics if name in held_out)]
    width = min(len(names), COLUMNS)
    rows = -(-len(names) // width)
    figure = Figure(figsize=(4.2 * width, 3.2 * rows + 0.8), layout="constrained")
    plots = figure.subplots(rows, width, squeeze=False).ravel()
    for plot in plots[len(names) :]:
        plot.set_axis_off()
    for plot, name in zip(plots, names, strict=False):
        if name in columns:
            _draw_training(plot, iterations, columns[name])
        if name in held_out:
            plot.plot(held_out["iteration"], held_out[name], "o-", color=VERMILION, label="held out")
        plot.set_title(in_words(name), fontsize="medium")
        plot.set_xlabel("iteration")
    entries = {label: line for plot in plots for line, label in zip(*plot.get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(SYNTHETIC if synthetic else "")
    return figure


def _draw_training(plot: Axes, iterations: np.ndarray, values: np.ndarray) -> None:
    width = max(len(values) // 50, 1)
    smooth = np.convolve(values, np.ones(width) / width, mode="valid")
    plot.plot(iterations, values, color=BLUE, alpha=0.25, linewidth=0.8)
    plot.plot(iterations[width - 1 :], smooth, color=BLUE, label=f"training, mean of {width} iterations")
    if values.min() > 0 and values.max() > WIDE * values.min():
        plot.set_yscale("log")


def read_table(path: Path) -> dict[str, np.ndarray]:
    """The columns of a CSV table of numbers."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in (rows[0] if rows else {})}
