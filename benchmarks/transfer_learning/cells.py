# SPDX-License-Identifier: Apache-2.0
"""Cells of the transfer table: each runs a bundle's own configs with overrides and leaves one JSON."""

from __future__ import annotations

import csv
import json
import os
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from ignite.engine import Events
from monai.transforms import ResizeWithPadOrCrop
from monai.utils import set_determinism

from custom.weights import read_weights

from .probe import moved, probe_auc, probe_dice
from .tasks import Items, labelled_items, workflow

Parts = dict[str, Items]
PAIR_KEYS = (("", "image"), ("_label", "label"), ("_subject", "subject"))
CLASSIFICATION = ("gvsl_covid_cls",)  # the other downstream bundles segment


def run_cell(path: Path, describe: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of a cell: read from its file, or measured now and written there.

    Raises:
        ValueError: the file was made from other settings; names it and what differs.
    """
    describe = json.loads(json.dumps(describe))
    if path.is_file():
        result = json.loads(path.read_text())
        different = {name for name in describe if result["settings"].get(name) != describe[name]}
        if different:
            raise ValueError(f"{path} was measured with other {sorted(different)}: move it away to measure it again")
        return result
    print(f"measuring {path}", flush=True)
    start = time.perf_counter()
    measured = measure()
    result = {"settings": describe, **measured, "seconds": round(time.perf_counter() - start, 1), **machine()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(result, indent=2) + "\n")
    os.replace(temporary, path)
    return result


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return {
        "device": device,
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "monai": monai.__version__},
    }


def metric_of(bundle: str) -> tuple[str, tuple[str, ...]]:
    """The column of validation.csv that counts, and its place in the metrics.json of a test."""
    return ("roc_auc", ("auc",)) if bundle in CLASSIFICATION else ("mean_dice", ("dice", "overall", "mean"))


def pretrain(
    task: dict[str, Any],
    parts: Parts,
    overrides: dict[str, Any],
    output: Path,
    every: int,
    source: Path | None = None,
    overlay: str | None = None,
) -> dict[str, Any]:
    """Pre-trains on the unlabelled part; weights of every `every` iterations go to output/steps/ITERATIONS.

    Pairs of the validation part are the held-out pairs. With `source`, a folder of other volumes takes their place;
    with `overlay`, the name of one of configs/pretext, another pretext task that of GVSL.
    """
    files = ["train.json"] if overlay is None else ["train.json", f"pretext/{overlay}.json"]
    data = {"dataset_dir": str(source)} if source else unlabelled_data(task, parts)
    built = workflow("gvsl_pretrain", files, {"output_dir": str(output), "resume": True, **data, **overrides})
    trainer = built.parser.get_parsed_content("train#trainer")
    export = next(handler for handler in built.parser.get_parsed_content("train#handlers") if hasattr(handler, "save"))

    def keep(engine) -> None:
        if engine.state.iteration % every == 0:
            final, export.directory = export.directory, str(output / "steps" / str(engine.state.iteration))
            export.save(engine)
            export.directory = final

    trainer.add_event_handler(Events.STARTED, lambda engine: keep(engine) if engine.state.iteration == 0 else None)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, keep)
    built.run()
    return {"validation": table(output / "validation.csv")}


def unlabelled_data(task: dict[str, Any], parts: Parts) -> dict[str, Any]:
    """Overrides that give pre-training the task's volumes, and pairs of its validation part with their labels."""
    held_out = parts["validation"]
    pairs = [
        {f"{side}{suffix}": item[key] for side, item in (("moving", a), ("fixed", b)) for suffix, key in PAIR_KEYS}
        for a in held_out
        for b in held_out
        if a is not b
    ][:8]
    training = [{name: item[name] for name in ("image", "subject")} for item in parts["pretraining"]]
    return {"data": {"training": training, "validation": pairs}, "labels": list(task["labels"].values())}


def table(path: Path) -> list[dict[str, float]]:
    """The rows of a CSV of numbers."""
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def probe(
    task: dict[str, Any], parts: Parts, overrides: dict[str, Any], weights: Path | None, seed: int, part: str
) -> dict[str, Any]:
    """Converged linear probe of a backbone's features on a part of the split.

    Segmentation: mean Dice from local features, on volumes as they are and randomly moved. Classification: AUC from
    pooled encoder features.

    Args:
        overrides: of the downstream bundle's train.json. weights: of the backbone, or None for random initialisation.
    """
    set_determinism(seed)
    built = workflow(task["bundle"], ["train.json"], {**given_data(task, parts), **overrides})
    backbone = built.parser.get_parsed_content("backbone")
    if weights is not None:
        backbone.load_state_dict(read_weights(weights)[0])
    preprocess = built.parser.get_parsed_content("validate#preprocessing")
    crop = ResizeWithPadOrCrop(built.parser.get_parsed_content("patch_size"))  # the size of pre-training

    def load(item: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        volume = preprocess(dict(item))
        label = torch.as_tensor(volume["label"]).round().long()
        image = torch.as_tensor(crop(torch.as_tensor(volume["image"]).float()))
        return image, torch.as_tensor(crop(label)) if label.ndim else label

    training = [load(item) for item in labelled_items(task, parts, seed)]
    test = [load(item) for item in parts[part]]
    if task["bundle"] in CLASSIFICATION:
        return {"score": round(probe_auc(backbone, training, test), 4)}
    labels = built.parser.get_parsed_content("labels")
    as_is, randomly_moved = probe_dice(backbone, training, [test, moved(test)], len(labels) + 1)
    return {
        "score": mean_dice(as_is),
        "score_moved": mean_dice(randomly_moved),
        "dice_of_structures": dict(zip(labels, np.nanmean(as_is, axis=0).round(4).tolist(), strict=True)),
    }


def mean_dice(values: np.ndarray) -> float:
    """Mean over volumes of the mean over structures."""
    return round(float(np.nanmean(np.nanmean(values, axis=1))), 4)


def given_data(task: dict[str, Any], parts: Parts, training: Items | None = None) -> dict[str, Any]:
    """Overrides that give a downstream bundle a task's data and, where it has its own, labels."""
    labels = {"labels": task["labels"]} if "labels" in task else {}
    data = {"training": training or [], "validation": parts["validation"], "test": parts["test"]}
    return {"data": data, **labels}


def train(
    task: dict[str, Any],
    parts: Parts,
    overrides: dict[str, Any],
    overlay: str | None,
    weights: Path | None,
    seed: int,
    output: Path,
) -> dict[str, Any]:
    """Trains the downstream bundle's configs on the seed's labelled volumes; validation scores against iterations."""
    chosen = {
        **given_data(task, parts, labelled_items(task, parts, seed)),
        "output_dir": str(output),
        "seed": seed,
        "resume": True,
        "pretrained_weights": None if weights is None else str(weights),
        **overrides,
    }
    files = ["train.json"] if overlay is None else ["train.json", overlay]
    workflow(task["bundle"], files, chosen).run()
    column, _ = metric_of(task["bundle"])
    return {
        "validation": [
            {"iteration": row["iteration"], "score": row[column]} for row in table(output / "validation.csv")
        ]
    }


def test(
    task: dict[str, Any], parts: Parts, overrides: dict[str, Any], overlay: str | None, model: Path, output: Path
) -> dict[str, Any]:
    """What evaluate.json reports of a trained model on the test part."""
    chosen = {
        **given_data(task, parts),
        "output_dir": str(output),
        "model_dir": str(model),
        "pretrained_weights": None,
        **overrides,
    }
    files = ["train.json", *([] if overlay is None else [overlay]), "evaluate.json"]
    workflow(task["bundle"], files, chosen).run()
    report = json.loads((output / "metrics.json").read_text())
    score = report
    for name in metric_of(task["bundle"])[1]:
        score = score[name]
    return {"score": score, "test": report}
