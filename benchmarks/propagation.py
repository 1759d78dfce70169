# SPDX-License-Identifier: Apache-2.0
"""Measures labels that are propagated from atlases by registration (`propagate.json` of gvsl_pretrain).

python -m benchmarks.propagation --atlases ATLASES --volumes LABELLED --weights bundles/gvsl_pretrain/models/brain

ATLASES and LABELLED are labelled data sets of different people with the same label values. The atlases are the list
"training" of the first, or the first `count` of them; every volume of the second is labelled, and its own label map is
used for the Dice alone.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bundles import workflow
from benchmarks.machine import command, machine
from custom.data import labelled_data
from custom.data.output_names import output_names
from custom.files import read_json, write_json
from custom.registration import label_dice, read_label
from custom.running import run_tool
from custom.running.arguments import listed


def main(
    atlases: str,
    volumes: str,
    weights: str,
    parts: str = "",
    count: int = 0,
    refine: int = 20,
    output: str = "",
) -> None:
    """Labels the volumes, prints the mean Dice of each structure, and writes all results as JSON.

    Args:
        atlases: labelled data set; the atlases are its list "training".
        volumes: labelled data set.
        weights: folder of model.pt, heads.pt and model.json.
        parts: the lists of `volumes` to label, with commas; all by default.
        count: number of atlases, the first ones; 0 for all.
        refine: steps of refinement of each pair.
        output: file for the JSON; empty prints only.

    Raises:
        ValueError: a part is not known, or has no volume.
    """
    lists = labelled_data(volumes, validation=0, test=0)
    if unknown := [part for part in listed(parts) if not lists.get(part)]:
        known = [part for part, items in lists.items() if items]
        raise ValueError(f"parts {unknown} of {volumes} have no volumes, expected some of {known}")
    items = [item for part in listed(parts) or lists for item in lists[part]]
    names = output_names([item["image"] for item in items], volumes)
    data = [{"image": item["image"], "subject": item["subject"]} for item in items]
    data = [item | {"output": name} for item, name in zip(data, names, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        settings = {"atlas_dir": atlases, "data": data, "model_dir": weights, "refine": refine, "output_dir": folder}
        settings |= {"dataset#atlases": f"$@atlases['training'][:{count or None}]"}
        run = workflow("gvsl_pretrain", ["register.json", "propagate.json"], settings, "infer")
        start = time.perf_counter()
        run.run()
        seconds = time.perf_counter() - start
        report = read_json(Path(folder) / "report.json", "the report of the run")
        cases = [measured(Path(folder), *pair) for pair in zip(report["cases"], items, strict=True)]
    settings = {"command": command("propagation"), "refine": refine, "seconds": round(seconds, 1)}
    result = summary(cases) | settings | {"cases": cases, "machine": machine()}
    print(json.dumps(result["dice"], indent=2))
    if output:
        write_json(Path(output), result, "the result of the propagation benchmark")


def measured(folder: Path, case: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    """Subject, agreement of the atlases and Dice of each label of a case; without any label the mean is None."""
    dice = label_dice(read_label(str(folder / case["file"]))[0], read_label(item["label"])[0])
    rounded = {str(label): round(value, 4) for label, value in dice.items()}
    named = {name: case[name] for name in ("subject", "atlases", "agreement")}
    return named | {"mean_dice": round(float(np.mean(list(dice.values()))), 4) if dice else None, "dice": rounded}


def summary(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over the cases of the mean Dice, and the mean Dice of each label."""
    means = [case["mean_dice"] for case in cases if case["mean_dice"] is not None]
    labels = sorted({label for case in cases for label in case["dice"]}, key=int)
    of_label = {label: np.mean([case["dice"][label] for case in cases if label in case["dice"]]) for label in labels}
    overall = {"mean": round(float(np.mean(means)), 4), "standard_deviation": round(float(np.std(means)), 4)}
    return {"dice": {"overall": overall} | {label: round(float(value), 4) for label, value in of_label.items()}}


if __name__ == "__main__":
    run_tool(main)
