# SPDX-License-Identifier: Apache-2.0
"""The figures of the results, as in the paper. Examples are pictures that the tests left in the work folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from custom.figures import SYNTHETIC, comparison_figure, in_words, save_figure, structure_colors, without_side

from .cells import training_name
from .example import FILE, read_example
from .report import DRAWN, METHODS, PROTOCOLS, baseline, by_labels, by_method, in_order, read_tasks, test_scores

# colors of Okabe and Ito
COLORS = {"scratch": "black", "gvsl": "#0072B2", "brain": "#0072B2", "gvsl_default": "#56B4E9", "phantom": "#009E73"}
COLORS |= {"chest": "#D55E00", "without_matching": "#E69F00", "without_restoration": "#CC79A7"}
COLORS |= {"without_affine": "#8C7A00"}
TRAINED = ("linear", "fine_tuned", "encoder", "propagated")  # protocols with curves
OTHERS = [method for method in METHODS if method not in COLORS]  # of the paper's table, drawn as one band
ROWS = {"GVSL and other methods": ("scratch", *OTHERS, "gvsl_default", "gvsl")}  # of methods_figure
ROWS["GVSL and its ablations"] = ("scratch", "without_matching", "without_restoration", "without_affine", "gvsl")
BAND = "Lines are means over seeds, bands reach from the lowest to the highest seed."


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
                shown = f"{figure.get_suptitle() or 'Task'}: {in_words(task)}"
                figure.suptitle(f"{SYNTHETIC}\n{shown}" if "phantoms" in task else shown)
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
    figure = Figure(figsize=(4.2 * len(shown), 4.6), layout="constrained")
    plots = figure.subplots(1, len(shown), squeeze=False)[0]
    for plot, name in zip(plots, shown, strict=True):
        draw_probe(plot, cells) if name == "probe" else draw_curves(plot, curves(cells, name), name)
    explain(figure, plots)
    return figure


def methods_figure(cells: list[dict[str, Any]]) -> Figure | None:
    """Validation score against iterations of the paper's table (its figure 6): a row for each entry of ROWS.

    The other methods are one band, from the lowest to the highest mean over seeds. Seeds that a method lacks are left
    out. A protocol without a method outside of DRAWN, or without a seed that all methods have, is not drawn.
    """
    cells = [
        cell for cell in cells if cell["settings"].get("method") in {name for row in ROWS.values() for name in row}
    ]
    scores = test_scores(cells)
    drawn = [name for name in TRAINED if set(scores[name]) - set(DRAWN)]
    shown = {name: seeds for name in drawn if (seeds := set.intersection(*map(set, scores[name].values())))}
    if not shown:
        return None
    figure = Figure(figsize=(5 * len(shown) + 3, 8), layout="constrained")
    plots = figure.subplots(len(ROWS), len(shown), squeeze=False, sharey="col")
    for line, (title, methods) in zip(plots, ROWS.items(), strict=True):
        for plot, (name, seeds) in zip(line, shown.items(), strict=True):
            of_seeds = curves([cell for cell in cells if cell["settings"]["seed"] in seeds], name)
            others = [of_seeds[method] for method in methods if method in OTHERS and method in of_seeds]
            if others:
                means = np.array([values.mean(0) for _, values in others])
                label = f"other methods ({len(others)}), lowest to highest mean"
                plot.fill_between(
                    others[0][0],
                    means.min(0),
                    means.max(0),
                    facecolor="none",
                    edgecolor="0.7",
                    hatch="///",
                    label=label,
                )
            named = {method: of_seeds[method] for method in methods if method in COLORS and method in of_seeds}
            draw_curves(plot, named, name)
        line[0].set_ylabel(f"{title}\nvalidation score (percent)")
    explain(figure, plots.ravel())
    return figure


def labels_figure(parts: dict[int | None, list[dict[str, Any]]]) -> Figure | None:
    """Test score against the number of labelled volumes; below, for each number that was trained with, validation score
    against iterations.

    A column for each protocol; the methods in DRAWN. None if there is only one number.

    Args:
        parts: the cells of each number, see `by_labels`.
    """
    parts = {n: [cell for cell in cells if cell["settings"].get("method") in DRAWN] for n, cells in parts.items()}
    scores = {number: test_scores(cells) for number, cells in parts.items()}
    shown = [name for name in PROTOCOLS if any(name in of_number for of_number in scores.values())]
    if len(parts) < 2 or not shown:
        return None
    protocols = [name for name in shown if name in TRAINED]
    found = {number: {name: curves(cells, name) for name in protocols} for number, cells in parts.items()}
    found = {number: of_number for number, of_number in found.items() if any(of_number.values())}
    figure = Figure(figsize=(4.2 * len(shown) + 1, 3.6 * (1 + len(found)) + 0.6), layout="constrained")
    plots = figure.subplots(1 + len(found), len(shown), squeeze=False)
    for name, column in zip(shown, plots.T, strict=True):
        draw_scores(column[0], {number: of_number[name] for number, of_number in scores.items()}, name)
        for plot, (number, of_number) in zip(column[1:], found.items(), strict=True):
            if of_number.get(name):
                draw_curves(plot, of_number[name], name)
                plot.set_title(f"{PROTOCOLS[name]}, {number} labelled", fontsize="medium")
            else:
                plot.axis("off")
    explain(figure, plots.ravel())
    return figure


def curves(cells: list[dict[str, Any]], protocol: str) -> dict[str, tuple[list[int], np.ndarray]]:
    """Validation scores at the tested learning rates, by method: iterations, and percent (seeds, iterations)."""
    cells = [cell for cell in cells if of_protocol(cell, protocol)]
    tested = {cell["settings"]["method"]: cell["settings"]["learning_rate"] for cell in cells if "test" in cell}
    found = {}
    for method in in_order(list(tested)):
        runs = by_method(cells, "validation")[method]
        points = [run["validation"] for run in runs if run["settings"]["learning_rate"] == tested[method]]
        values = np.array([[100 * point["score"] for point in curve] for curve in points])
        found[method] = [point["iteration"] for point in points[0]], values
    return found


def draw_scores(plot: Axes, scores: dict[int | None, dict[str, dict[int, float]]], protocol: str) -> None:
    """Test score against the number of labelled volumes: mean over seeds, lowest and highest seed.

    Args:
        plot: where to draw.
        scores: by number, method and seed, in percent.
        protocol: of the scores.
    """
    for method in in_order({method for of_number in scores.values() for method in of_number}):
        numbers = [number for number, of_number in scores.items() if method in of_number]
        values = [np.array(list(scores[number][method].values())) for number in numbers]
        draw_band(plot, numbers, *zip(*((v.mean(), v.min(), v.max()) for v in values), strict=True), method, "o")
    plot.set_title(PROTOCOLS[protocol], fontsize="medium")
    plot.set(xlabel="labelled volumes", ylabel="test score (percent)", xscale="log")
    plot.set_xticks(list(scores), list(map(str, scores)), minor=False)
    plot.minorticks_off()


def draw_curves(plot: Axes, found: dict[str, tuple[list[int], np.ndarray]], protocol: str) -> None:
    """Validation score against iterations: mean over seeds, lowest and highest seed.

    Args:
        plot: where to draw.
        found: see `curves`.
        protocol: of the curves.
    """
    for method, (iterations, values) in found.items():
        draw_band(plot, iterations, values.mean(0), values.min(0), values.max(0), method)
    plot.set_title(PROTOCOLS[protocol], fontsize="medium")
    plot.set(xlabel="iteration", ylabel="validation score (percent)")


def draw_band(plot: Axes, x: Any, mean: Any, low: Any, high: Any, method: str, marker: str = "") -> None:
    """A line, and a band around it, in the color of a method; a line of one point shows by its marker alone."""
    color = COLORS.get(method)
    (line,) = plot.plot(x, mean, marker=marker, color=color, label=METHODS.get(method, method), linewidth=2)
    plot.fill_between(x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)


def explain(figure: Figure, plots: Any, note: str = BAND) -> None:
    """One legend for all plots of a figure, and a note below."""
    entries = {label: handle for plot in plots for handle, label in zip(*plot.get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries.keys(), loc="outside right upper", frameon=False)
    figure.supxlabel(note, fontsize="small")


def of_protocol(cell: dict[str, Any], protocol: str) -> bool:
    """Whether a cell belongs to a protocol, or to the random initialisation that the protocol is compared with."""
    settings = cell["settings"]
    compared = settings.get("method") == "scratch" and settings.get("protocol") == baseline(protocol)
    return compared or settings.get("protocol") == protocol


def draw_probe(plot: Axes, cells: list[dict[str, Any]]) -> None:
    """Draws the probe on the validation part against pre-training steps, with the volumes as they are and moved."""
    with_step = [cell for cell in cells if "step" in cell["settings"]]
    steps = sorted({cell["settings"]["step"] for cell in with_step})
    seeds = sorted({cell["settings"]["seed"] for cell in with_step})
    probes = {(cell["settings"]["seed"], cell["settings"]["step"]): cell for cell in with_step}
    for name, style, label in (("score", "-", "GVSL, probe"), ("score_moved", "--", "GVSL, probe, moved volumes")):
        if name in with_step[0]:
            values = np.array([[100 * probes[seed, step][name] for step in steps] for seed in seeds])
            plot.plot(steps, values.mean(0), style, color=COLORS["gvsl"], label=label, linewidth=2)
            plot.fill_between(steps, values.min(0), values.max(0), color=COLORS["gvsl"], alpha=0.15, linewidth=0)
    plot.set_title(PROTOCOLS["probe"], fontsize="medium")
    plot.set(xlabel="pre-training iteration", ylabel="validation score (percent)")


def features_figure(cells: list[dict[str, Any]]) -> Figure | None:
    """t-SNE of local features of a validation volume, by structure, a panel for each method (figure 7).

    Where left and right have one color, structures of the right are triangles; all others are circles.
    """
    points = {cell["settings"]["method"]: cell["points"] for cell in cells if "points" in cell}
    if not points:
        return None
    figure = Figure(figsize=(4.5 * len(points) + 2.5, 5.4), layout="constrained")
    plots = figure.subplots(1, len(points), squeeze=False)[0]
    for plot, method in zip(plots, in_order(list(points)), strict=True):
        structures, colors = points[method], structure_colors(points[method])
        has_sides = len(set(colors)) < len(structures)
        for color, (name, positions) in zip(colors, structures.items(), strict=True):
            marker = "^" if has_sides and name.startswith("right") else "o"
            plot.scatter(*np.array(positions).T, s=10, color=color, marker=marker, edgecolors="0.4", linewidths=0.2)
        plot.set_title(METHODS.get(method, method), fontsize="medium")
        plot.set(xticks=[], yticks=[])
    named = dict(zip(map(without_side, structures) if has_sides else structures, colors, strict=True))
    dot = {"linestyle": "", "markeredgecolor": "0.4", "markersize": 7}
    handles = [Line2D([], [], marker="o", color=color, label=in_words(name), **dot) for name, color in named.items()]
    if has_sides:
        sides = {"left": "o", "right": "^"}.items()
        handles += [Line2D([], [], marker=marker, color="white", label=side, **dot) for side, marker in sides]
    figure.legend(handles=handles, loc="outside right upper", fontsize="small", frameon=False)
    count = sum(map(len, structures.values()))
    figure.suptitle(f"t-SNE of local features, {count} voxels of a validation volume")
    return figure


def restoration_figure(cells: list[dict[str, Any]]) -> Figure | None:
    """Registration loss of the training pairs against iterations, with and without restoration (figure 8)."""
    runs, compared = by_method(cells, "training"), ("gvsl", "without_restoration")
    if not set(compared) <= set(runs):
        return None
    figure = Figure(figsize=(8.5, 4.4), layout="constrained")
    plot = figure.subplots()
    for method in compared:
        iterations = [row["iteration"] for row in runs[method][0]["training"]]
        values = np.array([[row["registration"] for row in run["training"]] for run in runs[method]])
        draw_band(plot, iterations, values.mean(0), values.min(0), values.max(0), method)
    plot.set(xlabel="pre-training iteration", ylabel="registration loss, mean of an epoch")
    explain(figure, [plot])
    return figure


def examples_figure(cells: list[dict[str, Any]], work: Path) -> Figure | None:
    """The first test volume after fine-tuning with the first seed, by method, if the tests left it."""
    folders = {}
    for cell in cells:
        settings = cell["settings"]
        if "test" in cell and settings["protocol"] == "fine_tuned" and settings["method"] in DRAWN:
            parts = (settings.get(key) for key in ("method", "learning_rate", "seed", "labelled"))
            folder = work / training_name("fine_tuned", *parts) / "evaluation"
            if (folder / FILE).is_file():
                folders.setdefault(settings["method"], folder)
    if not folders:
        return None
    examples = {METHODS.get(method, method): read_example(folders[method]) for method in in_order(folders)}
    first = next(iter(examples.values()))
    planes = {name: example.planes for name, example in examples.items()}
    return comparison_figure(planes, first.structures, f"Fine-tuned, {first.name}", first.gray_scale)
