# SPDX-License-Identifier: Apache-2.0
"""The table of the results: RESULTS.md and RESULTS.csv."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from custom.files import atomic, write_text

from .results import read_results

Result = dict[str, Any]  # "settings" and what was measured
PROTOCOLS = {
    "probe": "converged linear probe",
    "probe_moved": "the same, volumes randomly moved",
    "linear": "linear",
    "fine_tuned": "fine-tuned",
    "encoder": "fine-tuned from the encoder alone",
    "propagated": "fine-tuned, with labels by registration",
    "registered": "labels by registration, no training",
}
METHODS = {
    "scratch": "random initialisation",
    "denoising": "denoising",
    "in_painting": "in-painting",
    "models_genesis": "Models Genesis",
    "rotation": "rotation",
    "deep_cluster": "DeepCluster",
    "simsiam": "SimSiam",
    "byol": "BYOL",
    "simclr": "SimCLR",
    "gvsl_default": "GVSL as in train.json",
    "published": "GVSL as published",
    "without_matching": "GVSL without Z-matching",
    "without_restoration": "GVSL without restoration",
    "without_affine": "GVSL without affine head",
    "gvsl": "GVSL",
    "brain": "GVSL on brains",
    "phantom": "GVSL on cardiac phantoms",
    "chest": "GVSL on chest CT",
}

HEADER = """# Transfer
Made by `python -m benchmarks.transfer table` from the files beside it; `python -m benchmarks.transfer figures` drew the
pictures. What a cell is, and the commands that measure it: [benchmarks/README.md](../../README.md). Means over seeds, ±
their sample standard deviation; a score without ± is of one seed. In brackets the gain over random initialisation with
the same seeds; the best is bold where all methods have equally many seeds. † was pre-trained with settings that were
searched on validation brains (`ablate`): transfer.json, on the task brain, or train.json, on the task brains. The
other pre-trainings were not searched in this way, so that rows with † are never bold. `table --seeds 0` prints one seed
alone.
"""
SEARCHED = "transfer.json"
EMBEDDED = ("scratch", "without_matching", "without_restoration", "phantom", "chest", "brain", "gvsl")  # in figure 7
DRAWN = ("scratch", "phantom", "chest", "brain", "gvsl")  # methods whose curves and examples are drawn


def read_tasks(results: Path) -> dict[str, list[Result]]:
    """The cells of each task in a folder of results, by name of the task."""
    files = {path.stem: path for path in results.glob("*.jsonl")}
    return {task: list(read_results(files[task]).values()) for task in sorted(files)}


def in_order(methods: Iterable[str]) -> list[str]:
    """Methods in the order of the paper's table; methods that it does not have come last."""
    known = list(METHODS)
    return sorted(methods, key=lambda name: (known.index(name) if name in known else len(known), name))


def test_scores(cells: list[Result]) -> dict[str, dict[str, dict[int, float]]]:
    """Test scores in percent, by protocol, method and seed."""
    scores: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for cell in cells:
        settings = cell["settings"]
        if settings.get("protocol") == "probe" and settings.get("part") == "test":
            scores["probe"][settings["method"]][settings["seed"]] = 100 * cell["score"]
            if "score_moved" in cell:
                scores["probe_moved"][settings["method"]][settings["seed"]] = 100 * cell["score_moved"]
        elif "test" in cell:
            scores[settings["protocol"]][settings["method"]][settings["seed"]] = 100 * cell["score"]
    return defaultdict(dict, {name: scores[name] for name in PROTOCOLS if name in scores})


def write_table(results: Path) -> str:
    """Writes RESULTS.md and RESULTS.csv into the folder of the results; returns the Markdown."""
    text, rows = render(results)
    with atomic(results / "RESULTS.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["task", "labelled", "protocol", "method", "seeds", "score", "spread", "gain"])
        writer.writeheader()
        writer.writerows(rows)
    write_text(results / "RESULTS.md", text)
    return text


def render(results: Path, seeds: Sequence[int] = ()) -> tuple[str, list[dict[str, Any]]]:
    """The Markdown and the rows of the CSV file.

    Args:
        results: folder with the results.
        seeds: the seeds to show; all if empty.
    """
    rows, lines = [], [HEADER]
    for task, all_cells in read_tasks(results).items():
        cells = [cell for cell in all_cells if not seeds or cell["settings"]["seed"] in seeds]
        for labelled, chosen in by_labels(cells).items():
            task_rows = csv_rows(task, test_scores(chosen), labelled)
            rows += task_rows
            lines += task_lines(task, chosen, task_rows)
        lines += rank_lines(task, cells) + pretraining_lines(task, cells) + ablation_lines(task, cells)
    return "\n".join(lines).rstrip() + "\n", rows


def by_labels(cells: list[Result]) -> dict[int | None, list[Result]]:
    """The cells of each number of labelled volumes, in this order; {None: cells} if the task has a single number.

    Cells without labelled volumes belong to every number.
    """
    counts = sorted({cell["settings"]["labelled"] for cell in cells if "labelled" in cell["settings"]})
    return {
        count: [cell for cell in cells if cell["settings"].get("labelled", count) == count]
        for count in counts or [None]
    }


def csv_rows(
    task: str, scores: dict[str, dict[str, dict[int, float]]], labelled: int | None = None
) -> list[dict[str, Any]]:
    """The rows of the CSV file: mean, standard deviation over seeds and gain over random initialisation, in percent."""
    rows = []
    for protocol, methods in scores.items():
        at_random = scores.get(baseline(protocol), {}).get("scratch", {})
        for method in in_order(methods):
            values = list(methods[method].values())
            row = {"task": task, "labelled": labelled or "", "protocol": protocol, "method": method}
            row["seeds"] = len(values)
            row["score"] = f"{np.mean(values):.1f}"
            row["spread"] = f"{np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
            row["gain"] = "" if method == "scratch" else gain(methods[method], at_random)
            rows.append(row)
    return rows


def baseline(protocol: str) -> str:
    """The protocol whose random initialisation the methods of a protocol are compared with."""
    return "fine_tuned" if protocol in ("encoder", "propagated", "registered") else protocol


def gain(scores: dict[int, float], at_random: dict[int, float]) -> str:
    """Mean gain over random initialisation with the same seeds, as text; empty if no seed has both."""
    gains = [score - at_random[seed] for seed, score in scores.items() if seed in at_random]
    return f"{np.mean(gains):+.1f}" if gains else ""


def task_lines(task: str, cells: list[Result], rows: list[dict[str, Any]]) -> list[str]:
    """The table of a task: a row for each method, a column for each protocol. Searched methods are never the best."""
    if not rows:
        return []
    tuned = searched_methods(cells)
    protocols = [name for name in PROTOCOLS if any(row["protocol"] == name for row in rows)]
    fair = [row for row in rows if row["method"] not in tuned]
    best = {name: best_score([row for row in fair if row["protocol"] == name]) for name in protocols}
    entries: dict[str, dict[str, str]] = defaultdict(lambda: dict.fromkeys(protocols, ""))
    for row in rows:
        text = f"{row['score']} ± {row['spread']}" if row["spread"] else row["score"]
        if row["method"] not in tuned and float(row["score"]) == best[row["protocol"]]:
            text = f"**{text}**"
        entries[row["method"]][row["protocol"]] = f"{text} ({row['gain']})" if row["gain"] else text
    seeds = sorted({row["seeds"] for row in rows})
    hardware = "; ".join(sorted({cell["device"] for cell in cells}))
    text = f"Test score in percent, {' or '.join(map(str, seeds))} {'seed' if seeds[-1] == 1 else 'seeds'}. {hardware}."
    labelled = f", labelled volumes: {rows[0]['labelled']}" if rows[0]["labelled"] else ""
    synthetic = ["Synthetic volumes: no claim on patients."] if task.endswith("phantoms") else []
    return markdown(
        [f"## {task}{labelled}", text, *synthetic],
        ["method", *(PROTOCOLS[name] for name in protocols)],
        [[METHODS.get(m, m) + " †" * (m in tuned), *entries[m].values()] for m in in_order(entries)],
    )


def searched_methods(cells: list[Result]) -> set[str]:
    """The methods of a task whose settings were searched: by transfer.json, or GVSL where the task has its variants."""
    settings = [cell["settings"] for cell in cells]
    by_overlay = {own["method"] for own in settings if SEARCHED in own.get("overlays", {})}
    has_variants = any("/" not in own["variant"] for own in settings if "variant" in own)
    return by_overlay | ({"gvsl"} if has_variants else set())


def best_score(rows: list[dict[str, Any]]) -> float | None:
    """The highest score; None unless there are several methods and all have equally many seeds."""
    several = len(rows) > 1 and len({row["seeds"] for row in rows}) == 1
    return max(float(row["score"]) for row in rows) if several else None


def rank_lines(task: str, cells: list[Result]) -> list[str]:
    """The table of effective ranks of each method's features, means over seeds."""
    rows = []
    for method, runs in by_method(cells, "rank").items():
        means = [f"{np.mean([run['rank'][name] for run in runs]):.0f}" for name in ("local", "bottleneck")]
        rows.append([METHODS.get(method, method), len(runs), *means])
    text = (
        f"Effective rank of features on the held-out volumes of {task}, in percent of the channels. Methods that train "
        "the encoder alone leave local features random."
    )
    return markdown([text], ["method", "seeds", "local", "bottleneck"], rows)


def pretraining_lines(task: str, cells: list[Result]) -> list[str]:
    """The table of each method's pre-training loss, first and last, means over seeds."""
    rows = []
    for method, runs in by_method(cells, "training").items():
        first, last = (np.mean([run["training"][epoch]["loss"] for run in runs]) for epoch in (0, -1))
        minutes = np.mean([run["seconds"] for run in runs]) / 60
        memory = np.max([run["peak_memory_gib"] for run in runs])
        numbers = [f"{runs[0]['training'][-1]['iteration']:.0f}", f"{first:.3f} to {last:.3f}"]
        rows.append([METHODS.get(method, method), len(runs), *numbers, f"{minutes:.0f}", f"{memory:.1f}"])
    text = f"Pre-training of {task}: each method's own loss, mean of the first and of the last epoch."
    return markdown([text], ["method", "seeds", "iterations", "loss", "minutes", "GiB"], rows)


def ablation_lines(task: str, cells: list[Result]) -> list[str]:
    """The table of the variants of a task's recipe, the best last probe first."""
    rows = []
    for name in {cell["settings"]["variant"] for cell in cells if "variant" in cell["settings"]}:
        runs = [cell["probes"] for cell in cells if cell["settings"].get("variant") == name]
        last = min(max(map(int, run)) for run in runs)
        start, end, moved = (
            [100 * run[step][score] for run in runs if step in run]
            for step, score in (("0", "score"), (str(last), "score"), (str(last), "score_moved"))
        )
        each = ", ".join(f"{value:.1f}" for value in end)
        ends = f"{np.mean(end):.1f} ({each})", f"{np.mean(moved):.1f}" if moved else ""
        order = len(runs), np.mean(end), f"| {name} |"
        rows.append((order, [name, last, len(runs), f"{np.mean(start):.1f}" if start else "", *ends]))
    text = (
        f"Variants of the recipe of {task}: converged linear probe on the validation volumes, in percent. Where seeds "
        "differ by five points and more, a variant of one seed says little."
    )
    columns = "variant", "iterations", "seeds", "at the start", "at the end (each seed)", "at the end, volumes moved"
    return markdown([text], columns, [row for _, row in sorted(rows, reverse=True)])


def by_method(cells: list[Result], key: str) -> dict[str, list[Result]]:
    """The cells that have a key, by method."""
    having = [cell for cell in cells if key in cell]
    methods = in_order({cell["settings"]["method"] for cell in having})
    return {method: [cell for cell in having if cell["settings"]["method"] == method] for method in methods}


def markdown(text: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lines of Markdown with the text and a table; none if the table has no rows."""
    head = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return ["", *text, "", *head, *(f"| {' | '.join(map(str, row))} |" for row in rows)] if rows else []
