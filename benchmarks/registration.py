# SPDX-License-Identifier: Apache-2.0
"""Compares register.json, with and without refinement, with ANTs SyN and elastix.

python -m benchmarks.registration --task phantoms --part validation --output result.json

Every method gets the same two preprocessed volumes and returns a displacement on the grid of the fixed one. With it the
moving label map is resampled onto the original fixed label map; Dice is the mean over the labels of the fixed map.
SyN needs antspyx and elastix needs itk-elastix (extra `registration`); a method whose package is absent is left out.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import itk
import numpy as np
import torch
from monai.data import MetaTensor
from tqdm import tqdm

from benchmarks.bundles import BENCHMARKS, ROOT, workflow
from benchmarks.machine import machine
from benchmarks.step_time import summary
from benchmarks.transfer.task_file import TaskFile, read_task_file
from benchmarks.transfer.volumes import read_cohort
from custom.files import write_json
from custom.layers import folded_share
from custom.registration import (
    RefineDisplacement,
    RegistrationPair,
    label_dice,
    pull_image,
    refine_displacement,
    resample_displacement,
    world_displacement,
)
from custom.running import run_tool
from custom.volumes import load_volume

Volumes = tuple[torch.Tensor, torch.Tensor]  # moving and fixed, (1, 1, *spatial), intensities in [0, 1]
PACKAGES = {"syn": ("ants", "antspyx"), "elastix": ("itk.itkElastixRegistrationMethodPython", "itk-elastix")}
METHODS = ("before", "affine", "network", "network_refined", "refined", *PACKAGES)
MEASURES = ("dice", "folded_share", "seconds")


def syn(volumes: Volumes, spacing: list[float], iterations: list[int]) -> torch.Tensor:
    """ANTs: affine stage on mutual information, then SyN on cross-correlation of radius 4 voxels.

    Args:
        volumes: moving and fixed.
        spacing: millimetres per voxel.
        iterations: of SyN at each level, the coarsest first.

    Returns:
        (1, 3, *spatial), in voxels.
    """
    import ants

    moving, fixed = (ants.from_numpy(volume[0, 0].cpu().numpy(), spacing=tuple(spacing)) for volume in volumes)
    with tempfile.TemporaryDirectory() as folder:
        result = ants.registration(
            fixed,
            moving,
            "SyN",
            outprefix=f"{folder}/syn_",
            syn_metric="CC",
            syn_sampling=4,
            reg_iterations=tuple(iterations),
        )
        composed = ants.apply_transforms(fixed, moving, result["fwdtransforms"], compose=f"{folder}/composed_")
        field = ants.image_read(composed).numpy()
    return torch.from_numpy(np.moveaxis(field, -1, 0) / np.reshape(spacing, (3, 1, 1, 1))).float()[None]


def elastix(volumes: Volumes, spacing: list[float], iterations: int) -> torch.Tensor:
    """elastix: its default affine, then its default B-spline map, control points 4 voxels apart.

    Args:
        volumes: moving and fixed.
        spacing: millimetres per voxel.
        iterations: of each stage at each level.

    Returns:
        (1, 3, *spatial), in voxels.
    """
    moving, fixed = (itk.image_from_array(np.ascontiguousarray(volume[0, 0].cpu().numpy().T)) for volume in volumes)
    for image in (moving, fixed):
        image.SetSpacing([float(step) for step in spacing])
    parameters = itk.ParameterObject.New()
    for stage in ("affine", "bspline"):
        stage_parameters = parameters.GetDefaultParameterMap(stage, 3, 4.0 * max(spacing))
        stage_parameters["MaximumNumberOfIterations"] = (str(iterations),)
        parameters.AddParameterMap(stage_parameters)
    with tempfile.TemporaryDirectory() as folder:
        _, transform = itk.elastix_registration_method(
            fixed, moving, parameter_object=parameters, log_to_console=False, output_directory=folder
        )
        image = itk.transformix_deformation_field(moving, transform, output_directory=folder)
        field = itk.array_from_image(image).transpose(3, 2, 1, 0)
    return torch.from_numpy(field / np.reshape(spacing, (3, 1, 1, 1))).float()[None]


def labelled_pairs(task: TaskFile, part: str, data: Path, work: Path) -> list[dict[str, Any]]:
    """The pairs of a part of a task: paths, subjects and absent structures of "moving" and "fixed", and their labels.

    All ordered pairs of its n volumes, so ordered that each n in a row have every volume once as moving and once as
    fixed; for the task `phantoms`, the eight held-out pairs of gvsl_pretrain ("validation").

    Raises:
        ValueError: the part is not known, or has no pair.
    """
    known = ("validation", "test") if task.bundle else ("validation",)
    if part not in known:
        raise ValueError(f"part of task {task.name} must be one of {list(known)}, got {part!r}")
    if task.bundle is None:
        return workflow("gvsl_pretrain", ["train.json"], {}).parser.get_parsed_content("data")["validation"]
    if task.split:  # volumes of other parts are neither read nor copied
        task = replace(task, split={"pretraining": [], part: task.split[part]}, unlabelled=None)
    items = getattr(read_cohort(task, data, work), part)
    if len(items) < 2:
        raise ValueError(f"{part} of task {task.name} has {len(items)} volumes, expected two or more")
    kinds = (("", "image"), ("_label", "label"), ("_subject", "subject"), ("_absent", "absent"))
    return [
        {
            f"{side}{suffix}": item.get(kind, [])
            for side, item in (("moving", moving), ("fixed", items[(index + step) % len(items)]))
            for suffix, kind in kinds
        }
        for step in range(1, len(items))
        for index, moving in enumerate(items)
    ]


def configured(task: TaskFile, weights: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """Overrides of register.json for the volumes of a task: those of its pre-training recipe, then the given ones."""
    recipe = task.recipe.pretraining or {}
    chosen = {name: recipe[name] for name in ("spacing", "channels", "intensity") if name in recipe}
    return chosen | ({"model_dir": weights} if weights else {}) | overrides


def registrations(
    parser: Any, steps: int, syn_iterations: list[int], elastix_iterations: int, chosen: list[str], network: bool
) -> dict[str, Callable[[dict[str, torch.Tensor]], torch.Tensor]]:
    """The chosen methods that can run: name -> function of a batch that returns the displacement, (1, 3, *spatial)."""
    spacing = list(parser.get_parsed_content("spacing"))
    device = torch.device(parser.get_parsed_content("device"))
    refinement: RefineDisplacement = parser.get_parsed_content("refinement")
    net = parser.get_parsed_content("network").eval() if network else None

    def outputs_of(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        batch = {name: batch[name].to(device) for name in ("moving", "moving_transformed", "fixed")}
        with torch.no_grad():
            return net(batch)

    def affine(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        outputs = outputs_of(batch)
        local = torch.zeros_like(outputs["local_displacement"])
        return net.matching_head.conventions.displacement(outputs["affine_matrix"], local)

    def refine_network(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        outputs = outputs_of(batch)
        conventions, matrix = net.matching_head.conventions, outputs["affine_matrix"]
        start = (outputs["local_displacement"], matrix, conventions)
        local = refine_displacement(*volumes_of(batch), *start, steps=steps, **refinement.arguments)
        return conventions.displacement(matrix, local)

    def volumes_of(batch: dict[str, torch.Tensor]) -> Volumes:
        return batch["moving"].to(device), batch["fixed"].to(device)

    def zero(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.zeros(1, 3, *batch["fixed"].shape[2:], device=device)

    def refine_alone(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return refine_displacement(*volumes_of(batch), zero(batch), steps=steps, **refinement.arguments)

    known = {
        "before": zero,
        "affine": affine,
        "network": lambda batch: outputs_of(batch)["displacement"],
        "network_refined": refine_network,
        "refined": refine_alone,
        "syn": lambda batch: syn(volumes_of(batch), spacing, syn_iterations),
        "elastix": lambda batch: elastix(volumes_of(batch), spacing, elastix_iterations),
    }
    for name in [name for name in chosen if name in PACKAGES]:
        module, package = PACKAGES[name]
        if importlib.util.find_spec(module) is None:
            print(f"{name} is left out: the package {package} is not installed (extra `registration`)")
            chosen = [other for other in chosen if other != name]
    return {name: known[name] for name in chosen}


def measured(
    moving: MetaTensor, fixed: MetaTensor, item: dict[str, Any], displacement: torch.Tensor, absent: set[int]
) -> dict[str, float]:
    """Mean Dice on the original fixed grid, and the folded share, of a displacement.

    Args:
        moving: original label map (1, *spatial).
        fixed: original label map, on another grid.
        item: the preprocessed pair, with the affines of its grids.
        displacement: (1, 3, *spatial), in voxels of the preprocessed grid.
        absent: labels that were not contoured in one of the volumes; they have no Dice.
    """
    affine, shape = np.asarray(fixed.affine), tuple(fixed.shape[1:])
    grids = item["moving_affine"].numpy(), item["fixed_affine"].numpy()
    field = world_displacement(displacement[0].float().cpu().numpy(), *grids)
    field = resample_displacement(field, grids[1], affine, shape)
    moved = pull_image(moving[0].numpy().astype(np.int32), np.asarray(moving.affine), field, affine, 0, nearest=True)
    dice = label_dice(moved, fixed[0].numpy().astype(np.int32))
    of_both = [value for label, value in dice.items() if label not in absent]
    return {"dice": float(np.mean(of_both)), "folded_share": float(folded_share(displacement))}


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
    if unknown := sorted(set(chosen) - set(METHODS)):
        raise ValueError(f"methods {unknown} are not known, expected some of {list(METHODS)}")
    task_file = read_task_file(task)
    if reduce:
        task_file = replace(task_file, name=f"{task_file.name}_reduced_{reduce}", reduce=reduce)
    ordered = labelled_pairs(task_file, part, Path(data), Path(work))[: pairs or None]
    settings = configured(task_file, weights, overrides or {})
    parser = workflow("gvsl_pretrain", ["register.json"], settings, kind="infer").parser
    needs_network = any(name in chosen for name in ("affine", "network", "network_refined"))
    levels = [int(value) for value in listed(syn_iterations)]
    register = registrations(parser, refine, levels, elastix_iterations, chosen, needs_network)

    rows = []
    for files in tqdm(ordered, desc="registering", unit="pair"):
        subjects = {side: files.pop(f"{side}_subject") for side in ("moving", "fixed")}
        absent = {task_file.labels[name] for side in ("moving", "fixed") for name in files.pop(f"{side}_absent", [])}
        item = RegistrationPair(transform=parser.get_parsed_content("preprocessing"), **files)[0]
        labels = [load_volume(files[f"{side}_label"], is_label=True) for side in ("moving", "fixed")]
        batch = {name: item[name][None].float() for name in ("moving", "moving_transformed", "fixed")}
        for name, method in register.items():
            began = time.perf_counter()
            displacement = method(batch).cpu()
            seconds = time.perf_counter() - began
            row = {**subjects, "method": name, "seconds": seconds}
            rows.append(row | measured(*labels, item, displacement, absent))
        result = {
            "benchmark": "registration",
            "command": " ".join(["python -m benchmarks.registration", *sys.argv[1:]]),
            "task": task,
            "part": part,
            "size": list(batch["fixed"].shape[2:]),
            "summary": {
                name: {
                    measure: summary([row[measure] for row in rows if row["method"] == name]) for measure in MEASURES
                }
                for name in register
            },
            "pairs": rows,
            **machine(),
        }
        if output:
            write_json(Path(output), result, "the result of the registration benchmark")
    print(json.dumps({name: value for name, value in result.items() if name != "pairs"}, indent=2))


def listed(text: str | tuple | list | int) -> list[str]:
    """The items of a text with commas, which fire may have read as a tuple or a number."""
    return [str(item).strip() for item in text] if isinstance(text, tuple | list) else str(text).split(",")


if __name__ == "__main__":
    run_tool(main)
