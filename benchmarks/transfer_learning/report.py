# SPDX-License-Identifier: Apache-2.0
"""The table and the figures of the transfer cells, from their files alone."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

PROTOCOLS = {
    "probe": "converged linear probe",
    "probe_moved": "the same, volumes randomly moved",
    "linear": "linear",
    "fine_tuned": "fine-tuned",
}
COLOURS = {
    "scratch": "tab:gray",
    "gvsl": "tab:blue",
    "brain": "tab:blue",
    "phantom": "tab:orange",
    "chest": "tab:green",
}
OTHER_COLOURS = colormaps["tab20"]


def task_folders(results: Path) -> list[Path]:
    """The folders of the tasks that have been measured."""
    return sorted(entry for entry in results.iterdir() if entry.is_dir())


def read_cells(folder: Path) -> list[dict[str, Any]]:
    """The cells of a task."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def test_scores(folder: Path) -> dict[str, dict[str, list[float]]]:
    """protocol -> method -> test score of each seed, in percent."""
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell in read_cells(folder):
        settings = cell["settings"]
        if settings.get("protocol") == "probe" and settings.get("part") == "test":
            scores["probe"][settings["method"]].append(100 * cell["score"])
            if "score_moved" in cell:
                scores["probe_moved"][settings["method"]].append(100 * cell["score_moved"])
        elif "test" in cell:
            scores[settings["protocol"]][settings["method"]].append(100 * cell["score"])
    return scores


def write_table(results: Path) -> str:
    """RESULTS.md and RESULTS.csv from all tasks, and the variants of recipes; returns the Markdown."""
    rows = []
    for folder in task_folders(results):
        for protocol, methods in test_scores(folder).items():
            baseline = np.mean(methods["scratch"]) if methods.get("scratch") else np.nan
            for method, values in methods.items():
                rows.append(
                    {
                        "task": folder.name,
                        "protocol": PROTOCOLS[protocol],
                        "method": method,
                        "seeds": len(values),
                        "score": f"{np.mean(values):.1f}",
                        "spread": f"{np.std(values):.1f}",
                        "gain": "" if method == "scratch" else f"{np.mean(values) - baseline:+.1f}",
                    }
                )
    with (results / "RESULTS.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["task", "protocol", "method", "seeds", "score", "spread", "gain"])
        writer.writeheader()
        writer.writerows(rows)
    lines = [
        "| task | protocol | method | seeds | test score (percent) | over random initialisation |",
        "|" + "---|" * 6,
    ]
    for row in rows:
        score = f"{row['score']} ± {row['spread']}"
        best = max(float(other["score"]) for other in rows if all(other[k] == row[k] for k in ("task", "protocol")))
        score = f"**{score}**" if float(row["score"]) == best else score
        lines.append(
            f"| {row['task']} | {row['protocol']} | {row['method']} | {row['seeds']} | {score} | {row['gain']} |"
        )
    for folder in task_folders(results):
        lines += ablation_lines(folder)
    text = "\n".join(lines) + "\n"
    (results / "RESULTS.md").write_text(text)
    return text


def ablation_lines(folder: Path) -> list[str]:
    """The variants of a task's recipe, best last probe first: Markdown, or nothing where there are none."""
    variants = [cell for cell in read_cells(folder) if "variant" in cell["settings"]]
    if not variants:
        return []
    rows = []
    for cell in variants:
        probes = cell["probes"]
        last, best = max(probes, key=int), max(probes, key=lambda step: probes[step]["score"])
        end = probes[last]
        scores = f"{100 * end['score']:.1f} / {100 * end['score_moved']:.1f}"
        top = f"{100 * probes[best]['score']:.1f} at {best}"
        start = f"{100 * probes['0']['score']:.1f}" if "0" in probes else ""
        rows.append((end["score"], f"| {cell['settings']['variant']} | {last} | {start} | {scores} | {top} |"))
    return [
        "",
        f"Variants of the recipe of {folder.name}: converged linear probe on the validation volumes, one seed.",
        "",
        "| variant | iterations | at the start | last probe as they are / moved (percent) | best probe |",
        "|---|---|---|---|---|",
        *(line for _, line in sorted(rows, reverse=True)),
    ]


def draw_figures(results: Path) -> list[Path]:
    """One picture a task: validation score against iterations of both protocols, probe against pre-training steps."""
    drawn = []
    for folder in task_folders(results):
        figure = Figure(figsize=(15, 4), layout="constrained")
        plots = dict(zip(("linear", "fine_tuned", "probe"), figure.subplots(1, 3), strict=True))
        cells = read_cells(folder)
        for protocol in ("linear", "fine_tuned"):
            draw_curves(plots[protocol], cells, protocol)
        draw_probe(plots["probe"], cells)
        path = results / f"{folder.name}.png"
        figure.suptitle(folder.name)
        figure.savefig(path, dpi=80)
        drawn.append(path)
    return drawn


def draw_curves(plot: Any, cells: list[dict[str, Any]], protocol: str) -> None:
    """Validation score against iterations at the tested learning rates: each seed thin, their mean thick."""
    tested = {
        (cell["settings"]["method"], cell["settings"]["learning_rate"])
        for cell in cells
        if "test" in cell and cell["settings"]["protocol"] == protocol
    }
    for place, (method, rate) in enumerate(sorted(tested)):
        colour = COLOURS.get(method, OTHER_COLOURS(place % OTHER_COLOURS.N))
        chosen = {"method": method, "learning_rate": rate, "protocol": protocol}
        curves = [
            cell["validation"]
            for cell in cells
            if "validation" in cell and all(cell["settings"].get(name) == value for name, value in chosen.items())
        ]
        iterations = [point["iteration"] for point in curves[0]]
        values = np.array([[100 * point["score"] for point in curve] for curve in curves])
        plot.plot(iterations, values.T, color=colour, alpha=0.3, linewidth=0.8)
        plot.plot(iterations, values.mean(0), color=colour, label=f"{method}, learning rate {rate:g}")
    plot.set(title=PROTOCOLS[protocol], xlabel="iteration", ylabel="validation score (percent)")
    if tested:
        plot.legend()


def draw_probe(plot: Any, cells: list[dict[str, Any]]) -> None:
    """The probe on the validation part against pre-training steps."""
    with_step = [cell for cell in cells if "step" in cell["settings"]]
    steps = sorted(((cell["settings"]["step"], cell) for cell in with_step), key=lambda pair: pair[0])
    for name, style in (("score", "o-"), ("score_moved", "s--")):
        if steps:
            label = "as they are" if name == "score" else "randomly moved"
            plot.plot([step for step, _ in steps], [100 * cell[name] for _, cell in steps], style, label=label)
    plot.set(title=PROTOCOLS["probe"], xlabel="pre-training iteration", ylabel="validation score (percent)")
    if steps:
        plot.legend()
