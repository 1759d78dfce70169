# SPDX-License-Identifier: Apache-2.0
"""Pictures of a run: registered pairs and loss curves."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from ignite import distributed as idist
from ignite.engine import Engine, Events
from matplotlib.figure import Figure

PLANES = ("sagittal", "coronal", "axial")
GRAY = {"cmap": "gray", "vmin": 0, "vmax": 1}
DIFFERENCE = {"cmap": "RdBu_r", "vmin": -0.5, "vmax": 0.5}


def middle_plane(volume: np.ndarray, axis: int) -> np.ndarray:
    """The middle slice across an axis of a RAS volume as radiologists look at it.

    Anterior (axial) or superior is up; the patient's right (or, sagittal, the front) is on the left.
    """
    return _plane(volume, axis, volume.shape[axis] // 2)


def fullest_plane(volume: np.ndarray, axis: int) -> np.ndarray:
    """As `middle_plane`, of the slice with the most voxels above zero: that of an organ cut out of its surroundings."""
    voxels = (volume > 0).sum(axis=tuple(other for other in range(3) if other != axis))
    return _plane(volume, axis, int(voxels.argmax()))


def _plane(volume: np.ndarray, axis: int, index: int) -> np.ndarray:
    return volume.take(index, axis=axis).T[::-1, ::-1]


def registration_figure(
    moving: np.ndarray, fixed: np.ndarray, warped: np.ndarray, displacement: np.ndarray, title: str = ""
) -> Figure:
    """Moving, fixed, warped, differences before and after, and the deformed grid, in the three middle planes.

    The grid shows where every fourth line of the fixed grid lies in the moving volume.

    Args:
        moving, fixed, warped: (*spatial), [0, 1]. displacement: (3, *spatial), voxels.
    """
    columns = {
        "moving": (moving, GRAY),
        "fixed": (fixed, GRAY),
        "warped": (warped, GRAY),
        "moving - fixed": (moving - fixed, DIFFERENCE),
        "warped - fixed": (warped - fixed, DIFFERENCE),
    }
    figure = Figure(figsize=(16, 8.5), layout="constrained")
    axes = figure.subplots(3, len(columns) + 1)
    for row, axis in enumerate((2, 1, 0)):
        for column, (name, (volume, style)) in enumerate(columns.items()):
            axes[row, column].imshow(middle_plane(volume, axis), **style)
            axes[0, column].set_title(name)
        _draw_grid(axes[row, -1], displacement, axis)
        axes[row, 0].set_ylabel(PLANES[axis])
    axes[0, -1].set_title("deformed grid")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], aspect="equal")
    figure.suptitle(title)
    return figure


def _draw_grid(plot: matplotlib.axes.Axes, displacement: np.ndarray, axis: int, step: int = 4) -> None:
    """Lines of the fixed grid at their places in the moving volume, projected onto the middle plane across `axis`."""
    first, second = (other for other in range(3) if other != axis)
    shape = displacement.shape[1:]
    middle = shape[axis] // 2
    across, up = (displacement[channel].take(middle, axis=axis) for channel in (first, second))
    x = np.arange(shape[first])[:, None] + across
    y = np.arange(shape[second])[None, :] + up
    for index in range(0, shape[first], step):
        plot.plot(x[index], y[index], color="tab:blue", linewidth=0.6)
    for index in range(0, shape[second], step):
        plot.plot(x[:, index], y[:, index], color="tab:blue", linewidth=0.6)
    plot.set(xlim=(shape[first] - 0.5, -0.5), ylim=(-0.5, shape[second] - 0.5))


def loss_figure(training: Path, validation: Path | None = None, metrics: Sequence[str] = ()) -> Figure:
    """Loss terms against iterations from the CSV tables of a run; validation as dots, its `metrics` apart."""
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


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a PNG, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


class RegistrationFigures:
    """Draws the first pairs of each evaluation as registration_PAIR.png; on the first process only.

    Args:
        directory: where the pictures go. pairs: how many.
    """

    def __init__(self, directory: str, pairs: int = 2) -> None:
        self.directory = Path(directory)
        self.pairs = pairs

    def attach(self, engine: Engine) -> None:
        """Registers on an evaluator whose outputs hold "warped" and "displacement"."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self.draw)

    def draw(self, engine: Engine) -> None:
        batch, outputs = engine.state.batch, engine.state.output
        for row, index in enumerate(batch["index"].tolist()):
            if index >= self.pairs or "warped" not in outputs:
                continue
            volumes = [batch["moving"][row, 0], batch["fixed"][row, 0], outputs["warped"][row, 0]]
            arrays = [tensor.float().cpu().numpy() for tensor in (*volumes, outputs["displacement"][row])]
            title = ", ".join(f"{name} {value:.3f}" for name, value in self._measured(outputs, row).items())
            save_figure(registration_figure(*arrays, title), self.directory / f"registration_{index}.png")

    @staticmethod
    def _measured(outputs: dict, row: int) -> dict[str, float]:
        prefixes = ("registration_", "dice_", "folded_")
        return {name: float(value[row]) for name, value in outputs.items() if name.startswith(prefixes)}


class LossFigure:
    """Draws losses.png from the CSV tables after each validation and at the end; on the first process only.

    Args:
        path: the picture. training, validation: the tables. metrics: columns of the validation to draw as well.
    """

    def __init__(self, path: str, training: str, validation: str, metrics: Sequence[str] = ()) -> None:
        self.path, self.training, self.validation = Path(path), Path(training), Path(validation)
        self.metrics = tuple(metrics)

    def attach(self, trainer: Engine) -> None:
        """Registers on the trainer."""
        if idist.get_rank() == 0:
            trainer.add_event_handler(Events.EPOCH_COMPLETED, self.draw)

    def draw(self, trainer: Engine) -> None:
        save_figure(loss_figure(self.training, self.validation, self.metrics), self.path)
