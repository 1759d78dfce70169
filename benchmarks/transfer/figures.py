# SPDX-License-Identifier: Apache-2.0
"""The figures of the results, as in the paper. Examples are pictures that the tests left in the work folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.image import imread

from custom.figures import save_figure

from .cells import training_name
from .report import DRAWN, METHODS, PROTOCOLS, baseline, by_labels, by_method, in_order, read_tasks, test_scores

COLORS = dict(zip(METHODS, ("black", *colormaps["Dark2"].colors), strict=False))  # blues are GVSL and its ablations
COLORS |= {"without_matching": "navy", "without_restoration": "turquoise", "without_affine": "slateblue"}
COLORS |= {"gvsl_default": "cornflowerblue", "gvsl": "tab:blue", "brain": "tab:blue"}
COLORS |= {"phantom": "tab:green", "chest": "tab:red"}
TRAINED = ("linear", "fine_tuned", "encoder")  # protocols with curves
ROWS = [method for method in METHODS if method not in ("brain", "phantom", "chest")]  # of the paper's table


def draw_figures(results: Path, work: Path) -> list[Path]:
    """Draws TASK.png and TASK_{labels,methods,features,restoration,examples}.png beside the results, if it has cells.

    All but TASK_labels.png show the largest number of labelled volumes.

    Args:
        results: folder with the results.
        work: folder with the pictures of the tests.
    """
    drawn = []
    for task, all_cells in read_tasks(results).items():
        parts = by_labels(all_cells)
        cells = list(parts.values())[-1]
        figures = {
            "": curves_figure(cells),
            "_labels": labels_figure(parts),
            "_methods": methods_figure(cells),
            "_features": features_figure(cells),
            "_restoration": restoration_figure(cells),
            "_examples": examples_figure(cells, work / task),
        }
        for ending, figure in figures.items():
            if figure is not None:
                figure.suptitle(task)
                drawn.append(results / f"{task}{ending}.png")
                save_figure(figure, drawn[-1])
    return drawn


def curves_figure(cells: list[dict[str, Any]]) -> Figure | None:
    """Validation score against iterations, and probe against pre-training steps, of the methods in DRAWN."""
    cells = [cell for cell in cells if cell["settings"].get("method") in DRAWN]
    scores = test_scores(cells)
    shown = [name for name in TRAINED if scores[name]]
    shown += ["probe"] if any("step" in cell["settings"] for cell in cells) else []
    if not shown:
        return None
    figure = Figure(figsize=(5 * len(shown), 4), layout="constrained")
    for plot, name in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        draw_probe(plot, cells) if name == "probe" else draw_curves(plot, cells, name)
    return figure


def methods_figure(cells: list[dict[str, Any]]) -> Figure | None:
    """Validation score against iterations of all methods in the paper's table (its figure 6), means over seeds.

    Seeds that a method lacks are left out. A protocol without a method outside of DRAWN, or without a seed that all
    methods have, is not drawn.
    """
    cells = [cell for cell in cells if cell["settings"].get("method") in ROWS]
    scores = test_scores(cells)
    drawn = [name for name in TRAINED if set(scores[name]) - set(DRAWN)]
    shown = {name: set.intersection(*map(set, scores[name].values())) for name in drawn}
    shown = {name: seeds for name, seeds in shown.items() if seeds}
    if not shown:
        return None
    figure = Figure(figsize=(5 * len(shown) + 2.5, 5), layout="constrained")
    plots = figure.subplots(1, len(shown), squeeze=False)[0]
    for plot, (name, seeds) in zip(plots, shown.items(), strict=True):
        draw_curves(plot, [cell for cell in cells if cell["settings"]["seed"] in seeds], name, few=False)
    entries = max((plot.get_legend_handles_labels() for plot in plots), key=lambda entries: len(entries[1]))
    figure.legend(*entries, loc="outside right upper", fontsize="small")
    return figure


def labels_figure(parts: dict[int | None, list[dict[str, Any]]]) -> Figure | None:
    """Test score against the number of labelled volumes; below, for each number, validation score against iterations.

    A column for each protocol; the methods in DRAWN. None if there is only one number.

    Args:
        parts: the cells of each number, see `by_labels`.
    """
    parts = {n: [cell for cell in cells if cell["settings"].get("method") in DRAWN] for n, cells in parts.items()}
    scores = {number: test_scores(cells) for number, cells in parts.items()}
    shown = [name for name in PROTOCOLS if any(name in of_number for of_number in scores.values())]
    if len(parts) < 2 or not shown:
        return None
    rows = 1 + len(parts) * bool(set(shown) & set(TRAINED))
    figure = Figure(figsize=(5 * len(shown), 4 * rows), layout="constrained")
    for name, column in zip(shown, figure.subplots(rows, len(shown), squeeze=False).T, strict=True):
        draw_scores(column[0], {number: of_number[name] for number, of_number in scores.items()}, name)
        for plot, (number, cells) in zip(column[1:], parts.items(), strict=False):
            if name in TRAINED:
                draw_curves(plot, cells, name)
                plot.set(title=f"{PROTOCOLS[name]}, {number} labelled")
            else:
                plot.axis("off")
    return figure


def draw_scores(plot: Any, scores: dict[int | None, dict[str, dict[int, float]]], protocol: str) -> None:
    """Test score against the number of labelled volumes: the mean over seeds as a line, each seed as a dot.

    Args:
        plot: axes of Matplotlib.
        scores: by number, method and seed, in percent.
        protocol: of the scores.
    """
    for method in in_order({method for of_number in scores.values() for method in of_number}):
        numbers = [number for number, of_number in scores.items() if method in of_number]
        values = [list(scores[number][method].values()) for number in numbers]
        color = COLORS.get(method)
        means = [float(np.mean(seeds)) for seeds in values]
        plot.plot(numbers, means, "-", color=color, label=METHODS.get(method, method))
        dots = [(number, value) for number, seeds in zip(numbers, values, strict=True) for value in seeds]
        plot.plot(*zip(*dots, strict=True), ".", color=color, alpha=0.5)
    plot.set(title=PROTOCOLS[protocol], xlabel="labelled volumes", ylabel="test score (percent)", xscale="log")
    plot.set_xticks(list(scores), list(map(str, scores)), minor=False)
    plot.minorticks_off()
    plot.legend(fontsize="small")


def draw_curves(plot: Any, cells: list[dict[str, Any]], protocol: str, few: bool = True) -> None:
    """Validation score against iterations at the tested learning rates, mean over seeds.

    Args:
        plot: axes of Matplotlib.
        cells: of the task.
        protocol: is drawn.
        few: there are few methods, so that the seeds and the learning rate can be shown, too.
    """
    cells = [cell for cell in cells if of_protocol(cell, protocol)]
    tested = {cell["settings"]["method"]: cell["settings"]["learning_rate"] for cell in cells if "test" in cell}
    for method in in_order(list(tested)):
        runs = by_method(cells, "validation")[method]
        curves = [run["validation"] for run in runs if run["settings"]["learning_rate"] == tested[method]]
        iterations = [point["iteration"] for point in curves[0]]
        values = np.array([[100 * point["score"] for point in curve] for curve in curves])
        color, label = COLORS.get(method), METHODS.get(method, method)
        if few:
            label = f"{label}, {tested[method]:g}"
            plot.plot(iterations, values.T, color=color, alpha=0.3, linewidth=0.8)
        style = {"linewidth": 2 if method in DRAWN else 1, "linestyle": "--" if method.startswith("without") else "-"}
        plot.plot(iterations, values.mean(0), color=color, label=label, **style)
    plot.set(title=PROTOCOLS[protocol], xlabel="iteration", ylabel="validation score (percent)")
    if few:
        plot.legend(fontsize="small", title="learning rate", title_fontsize="small")


def of_protocol(cell: dict[str, Any], protocol: str) -> bool:
    """Whether a cell belongs to a protocol, or to the random initialisation that the protocol is compared with."""
    settings = cell["settings"]
    compared = settings.get("method") == "scratch" and settings.get("protocol") == baseline(protocol)
    return compared or settings.get("protocol") == protocol


def draw_probe(plot: Any, cells: list[dict[str, Any]]) -> None:
    """Draws the probe on the validation part against pre-training steps."""
    with_step = [cell for cell in cells if "step" in cell["settings"]]
    steps = sorted({cell["settings"]["step"] for cell in with_step})
    seeds = sorted({cell["settings"]["seed"] for cell in with_step})
    probes = {(cell["settings"]["seed"], cell["settings"]["step"]): cell for cell in with_step}
    for name, style, label in (("score", "o-", "as they are"), ("score_moved", "s--", "randomly moved")):
        if name in with_step[0]:
            values = np.array([[100 * probes[seed, step][name] for step in steps] for seed in seeds])
            (line,) = plot.plot(steps, values.mean(0), style, label=label)
            plot.plot(steps, values.T, color=line.get_color(), alpha=0.3, linewidth=0.8)
            plot.legend()
    plot.set(title=PROTOCOLS["probe"], xlabel="pre-training iteration", ylabel="validation score (percent)")


def features_figure(cells: list[dict[str, Any]]) -> Figure | None:
    """Local features of a validation volume in two dimensions, by structure, random and pre-trained (figure 7)."""
    points = {cell["settings"]["method"]: cell["points"] for cell in cells if "points" in cell}
    if not points:
        return None
    figure = Figure(figsize=(6 * len(points) + 3, 6), layout="constrained")
    for plot, method in zip(figure.subplots(1, len(points), squeeze=False)[0], in_order(list(points)), strict=True):
        colors = colormaps["nipy_spectral"](np.linspace(0.05, 0.95, len(points[method])))
        for color, (structure, positions) in zip(colors, points[method].items(), strict=True):
            plot.scatter(*np.array(positions).T, s=8, color=color, label=structure)
        plot.set(title=METHODS.get(method, method), xticks=[], yticks=[])
    figure.legend(*plot.get_legend_handles_labels(), loc="outside right upper", markerscale=2, fontsize="small")
    return figure


def restoration_figure(cells: list[dict[str, Any]]) -> Figure | None:
    """Registration loss of the training pairs against iterations, with and without restoration (figure 8)."""
    runs, compared = by_method(cells, "training"), ("gvsl", "without_restoration")
    if not set(compared) <= set(runs):
        return None
    figure = Figure(figsize=(6, 4), layout="constrained")
    plot = figure.subplots()
    for method in compared:
        iterations = [row["iteration"] for row in runs[method][0]["training"]]
        values = np.array([[row["registration"] for row in run["training"]] for run in runs[method]])
        plot.plot(iterations, values.mean(0), color=COLORS[method], label=METHODS[method])
        plot.plot(iterations, values.T, color=COLORS[method], alpha=0.3, linewidth=0.8)
    plot.set(xlabel="pre-training iteration", ylabel="registration loss, mean of an epoch")
    plot.legend()
    return figure


def examples_figure(cells: list[dict[str, Any]], work: Path) -> Figure | None:
    """The test volume of median score after fine-tuning with the first seed, by method, if there are pictures."""
    pictures = {}
    for cell in cells:
        settings = cell["settings"]
        if "test" in cell and settings["protocol"] == "fine_tuned" and settings["method"] in DRAWN:
            parts = (settings.get(key) for key in ("method", "learning_rate", "seed", "labelled"))
            name = training_name("fine_tuned", *parts)
            picture = work / name / "evaluation" / "median.png"
            if picture.is_file():
                pictures.setdefault(settings["method"], imread(picture))
    if not pictures:
        return None
    height, width = next(iter(pictures.values())).shape[:2]
    columns = min(len(pictures), 2)
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(10 * columns, 10 * height / width * rows), layout="constrained")
    plots = figure.subplots(rows, columns, squeeze=False).ravel()
    for plot in plots:
        plot.axis("off")
    for plot, method in zip(plots, in_order(list(pictures)), strict=False):
        plot.imshow(pictures[method])
        plot.set(title=METHODS.get(method, method))
    return figure
