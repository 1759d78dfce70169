# SPDX-License-Identifier: Apache-2.0
"""Compares register.json, with and without refinement, with ANTs SyN and elastix.

python -m benchmarks.registration --task phantoms --output result.json

Every method gets the same two preprocessed volumes and returns a displacement on the grid of the fixed one. With it the
moving label map is resampled onto the original fixed label map; Dice is the mean over the labels of the fixed map.
SyN needs antspyx and elastix needs itk-elastix (extra `registration`); a method whose package is absent is left out.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.bundles import BENCHMARKS, ROOT, workflow
from benchmarks.machine import command, machine
from benchmarks.registration_methods import METHODS, chosen_methods
from benchmarks.step_time import summary
from benchmarks.transfer.task_file import TaskFile, read_task_file
from benchmarks.transfer.volumes import read_cohort
from custom.data import labelled_data
from custom.files import write_json
from custom.layers import folded_share
from custom.phantoms import CardiacPhantomCohort
from custom.registration import (
    RegistrationPair,
    label_dice,
    millimetre_field,
    pull_image,
    read_label,
    resample_displacement,
)
from custom.running import run_tool
from custom.running.arguments import listed

SIDES = ("moving", "fixed")
NEW_PHANTOMS = 7  # seed
MEASURES = ("dice", "folded_share", "seconds")
LabelMap = tuple[np.ndarray, np.ndarray]  # values (*spatial), and affine (4, 4)


def labelled_pairs(task: TaskFile, part: str, data: Path, work: Path) -> list[dict[str, Any]]:
    """The pairs of a part of a task: paths, subjects and absent structures of "moving" and "fixed", and their labels.

    All ordered pairs of its n volumes, so ordered that each n in a row have every volume once as moving and once as
    fixed. The volumes of the task `phantoms` ("test") are new ones, see `new_phantoms`.

    Raises:
        ValueError: the part is not known, or has no pair.
    """
    known = ("validation", "test") if task.bundle else ("test",)
    if part not in known:
        raise ValueError(f"part of task {task.name} must be one of {list(known)}, got {part!r}")
    if task.split:  # volumes of other parts are neither read nor copied
        task = replace(task, split={"pretraining": [], part: task.split[part]}, unlabelled=None)
    items = getattr(read_cohort(task, data, work), part) if task.bundle else new_phantoms(work)
    if len(items) < 2:
        raise ValueError(f"{part} of task {task.name} has {len(items)} volumes, expected two or more")
    kinds = (("", "image"), ("_label", "label"), ("_subject", "subject"), ("_absent", "absent"))
    return [
        {
            f"{side}{suffix}": item.get(kind, [])
            for side, item in zip(SIDES, (moving, items[(index + step) % len(items)]), strict=True)
            for suffix, kind in kinds
        }
        for step in range(1, len(items))
        for index, moving in enumerate(items)
    ]


def new_phantoms(work: Path) -> list[dict[str, Any]]:
    """Six cardiac phantoms of a seed that no training of a bundle has: every phantom of the default run is in the
    training of some weights."""
    folder = CardiacPhantomCohort(str(work / "new_phantoms"), subjects=6, seed=NEW_PHANTOMS).make()
    return [item for items in labelled_data(folder, validation=0, test=0).values() for item in items]


def configured(task: TaskFile, weights: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """Overrides of register.json for the volumes of a task: those of its pre-training recipe, then the given ones."""
    recipe = task.recipe.pretraining or {}
    chosen = {name: recipe[name] for name in ("spacing", "channels", "intensity") if name in recipe}
    return chosen | ({"model_dir": weights} if weights else {}) | overrides


def measured(
    moving: LabelMap, fixed: LabelMap, displacement: torch.Tensor, grids: dict[str, torch.Tensor], absent: set[int]
) -> dict[str, float | None]:
    """Mean Dice on the original fixed grid, None where no label has one, and the folded share of a displacement.

    Args:
        moving: original label map (*spatial) and its affine.
        fixed: the same, on another grid.
        displacement: (1, 3, *spatial), in voxels of the preprocessed grid.
        grids: "moving_affine" and "fixed_affine", (1, 4, 4), of the preprocessed volumes.
        absent: labels that were not contoured in one of the volumes; they have no Dice.
    """
    true, affine = fixed
    field = resample_displacement(*millimetre_field(displacement, grids), affine, true.shape)
    moved = pull_image(*moving, field, affine, 0, nearest=True)
    dice = [value for label, value in label_dice(moved, true).items() if label not in absent]
    return {"dice": float(np.mean(dice)) if dice else None, "folded_share": float(folded_share(displacement))}


def summaries(rows: list[dict[str, Any]]) -> dict[str, dict[str, float] | None]:
    """Median and quartiles of each measure over the pairs that have it; None where none has it."""
    values = {name: [row[name] for row in rows if row[name] is not None] for name in MEASURES}
    return {name: summary(existing) if existing else None for name, existing in values.items()}


def main(
    task: str,
    part: str = "test",
    pairs: int = 0,
    methods: str = ",".join(METHODS),
    weights: str = "",
    refine: int = 100,
    syn_iterations: str = "100,70,50,20",
    elastix_iterations: int = 256,
    reduce: int = 0,
    overrides: dict[str, Any] | None = None,
    data: str = str(ROOT.parent / "shared" / "data"),
    work: str = str(BENCHMARKS / "work"),
    output: str = "",
) -> None:
    """Registers pairs of a task's volumes and prints the result; with `output` also writes it, after each pair.

    Args:
        task: name of a file in benchmarks/tasks, or its path.
        part: "validation" or "test" of the task's split.
        pairs: number of pairs, the first ones of the part in the order of `labelled_pairs`; 0 for all.
        methods: some of before, affine, network, network_refined, refined, syn, elastix, separated by commas.
        weights: folder with model.pt, heads.pt and model.json; by default the shipped weights of gvsl_pretrain.
        refine: Adam steps of the refinement.
        syn_iterations: of SyN at each level, the coarsest first, separated by commas.
        elastix_iterations: of elastix at each level.
        reduce: factor by which the copies of the volumes are coarser; 0 for that of the task.
        overrides: keys of register.json and their values, as JSON; they win over the recipe of the task.
        data: folder with the source of the task.
        work: folder for phantoms and copies of volumes.
        output: file for the JSON.

    Raises:
        ValueError: a method or part is not known, or the part has no pair.
    """
    chosen = listed(methods)
    if not chosen:
        raise ValueError(f"methods is {methods!r}, expected some of {list(METHODS)}")
    if unknown := sorted(set(chosen) - set(METHODS)):
        raise ValueError(f"methods {unknown} are not known, expected some of {list(METHODS)}")
    task_file = read_task_file(task)
    if reduce:
        task_file = replace(task_file, name=f"{task_file.name}_reduced_{reduce}", reduce=reduce)
    ordered = labelled_pairs(task_file, part, Path(data), Path(work))[: pairs or None]
    settings = configured(task_file, weights, overrides or {}) | {"refine": refine}
    parser = workflow("gvsl_pretrain", ["register.json"], settings, kind="infer").parser
    device = torch.device(parser.get_parsed_content("device"))
    levels = [int(value) for value in listed(syn_iterations)]
    register = chosen_methods(chosen, parser, levels, elastix_iterations)

    rows = []
    for files in tqdm(ordered, desc="registering", unit="pair"):
        subjects = {side: files.pop(f"{side}_subject") for side in SIDES}
        absent = {task_file.labels[name] for side in SIDES for name in files.pop(f"{side}_absent", [])}
        item = RegistrationPair(transform=parser.get_parsed_content("preprocessing"), **files)[0]
        batch = {name: item[name][None].float().to(device) for name in ("moving", "moving_transformed", "fixed")}
        labels = [read_label(files[f"{side}_label"]) for side in SIDES]
        grids = {f"{side}_affine": item[f"{side}_affine"][None] for side in SIDES}
        for name, method in register.items():
            began = time.perf_counter()
            displacement = method(batch).cpu()
            seconds = time.perf_counter() - began
            row = {**subjects, "method": name, "seconds": seconds}
            rows.append(row | measured(*labels, displacement, grids, absent))
        result = {
            "benchmark": "registration",
            "command": command("registration"),
            "task": task,
            "part": part,
            "size": list(batch["fixed"].shape[2:]),
            "summary": {name: summaries([row for row in rows if row["method"] == name]) for name in register},
            "pairs": rows,
            **machine(),
        }
        if output:
            write_json(Path(output), result, "the result of the registration benchmark")
    print(json.dumps({name: value for name, value in result.items() if name != "pairs"}, indent=2))


if __name__ == "__main__":
    run_tool(main)
