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
from monai.bundle import ConfigWorkflow
from monai.utils import set_determinism

from .probe import moved, probe_dice
from .tasks import ROOT, items, labelled_subjects

BUNDLES = ROOT / "bundles"


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


def workflow(bundle: str, files: list[str], overrides: dict[str, Any]) -> ConfigWorkflow:
    """An initialised training workflow of a bundle."""
    configs = BUNDLES / bundle / "configs"
    built = ConfigWorkflow(
        [str(configs / name) for name in files],
        str(configs / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        bundle_root=str(BUNDLES / bundle),
        **overrides,
    )
    built.initialize()
    return built


def pretrain(
    task: dict[str, Any], volumes: Path, overrides: dict[str, Any], output: Path, every: int
) -> dict[str, Any]:
    """Pre-trains on the unlabelled part; weights of every `every` iterations go to output/steps/ITERATIONS.

    Pairs of the validation part are the held-out pairs.
    """
    held_out = items(task, volumes, "validation")
    pairs = [
        {f"{side}{suffix}": item[key] for side, item in (("moving", a), ("fixed", b)) for suffix, key in PAIR_KEYS}
        for a in held_out
        for b in held_out
        if a is not b
    ][:8]
    training = [{name: item[name] for name in ("image", "subject")} for item in items(task, volumes, "pretraining")]
    built = workflow(
        "gvsl_pretrain",
        ["train.json"],
        {
            "output_dir": str(output),
            "data": {"training": training, "validation": pairs},
            "labels": list(task["labels"].values()),
            "resume": True,
            **overrides,
        },
    )
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


PAIR_KEYS = (("", "image"), ("_label", "label"), ("_subject", "subject"))


def table(path: Path) -> list[dict[str, float]]:
    """The rows of a CSV of numbers."""
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def probe(
    task: dict[str, Any], volumes: Path, overrides: dict[str, Any], weights: Path | None, seed: int, part: str
) -> dict[str, Any]:
    """Converged linear probe of local features on a part of the split, as it is and randomly moved.

    Args:
        overrides: of gvsl_pretrain's train.json: network and preprocessing. weights: a folder, or None for random.
    """
    set_determinism(seed)
    labels = list(task["labels"].values())
    chosen = {
        name: value for name, value in overrides.items() if name in ("channels", "spacing", "patch_size", "intensity")
    }
    built = workflow("gvsl_pretrain", ["train.json"], {"data": {"training": [], "validation": []}, **chosen})
    backbone = built.parser.get_parsed_content("network_def")
    if weights is not None:
        backbone.load_state_dict(torch.load(weights / "model.pt", weights_only=True))
    preprocess = built.parser.get_parsed_content("validate#preprocessing")
    encode = {value: place + 1 for place, value in enumerate(labels)}

    def load(item: dict[str, str]) -> tuple[torch.Tensor, torch.Tensor]:
        volume = preprocess({name: item[name] for name in ("image", "label")})
        label = torch.as_tensor(volume["label"]).round().long()
        classes = sum(place * (label == value) for value, place in encode.items())
        return torch.as_tensor(volume["image"]).float(), classes

    training = [load(item) for item in items(task, volumes, "pretraining", labelled_subjects(task, seed))]
    test = [load(item) for item in items(task, volumes, part)]
    as_is, randomly_moved = probe_dice(backbone, training, [test, moved(test)], len(labels) + 1)
    return {
        "dice": mean_dice(as_is),
        "dice_moved": mean_dice(randomly_moved),
        "dice_of_structures": dict(zip(task["labels"], np.nanmean(as_is, axis=0).round(4).tolist(), strict=True)),
    }


def mean_dice(values: np.ndarray) -> float:
    """Mean over volumes of the mean over structures."""
    return round(float(np.nanmean(np.nanmean(values, axis=1))), 4)


def segment(
    task: dict[str, Any],
    volumes: Path,
    overrides: dict[str, Any],
    overlay: str | None,
    weights: Path | None,
    seed: int,
    output: Path,
) -> dict[str, Any]:
    """Trains gvsl_seg_heart's configs on the seed's labelled volumes; validation Dice against iterations."""
    data = {
        "training": items(task, volumes, "pretraining", labelled_subjects(task, seed)),
        "validation": items(task, volumes, "validation"),
        "test": items(task, volumes, "test"),
    }
    start = {"pretrained_weights": None if weights is None else str(weights)}
    labels = {"labels": task["labels"], "background_values": []}
    chosen = {"output_dir": str(output), "data": data, "seed": seed, "resume": True, **labels, **start, **overrides}
    files = ["train.json"] if overlay is None else ["train.json", overlay]
    workflow("gvsl_seg_heart", files, chosen).run()
    curve = table(output / "validation.csv")
    return {"validation": [{"iteration": row["iteration"], "dice": row[KEY_METRIC]} for row in curve]}


KEY_METRIC = "mean_dice"


def test_segmentation(
    task: dict[str, Any], volumes: Path, overrides: dict[str, Any], overlay: str | None, model: Path, output: Path
) -> dict[str, Any]:
    """Dice and 95 % Hausdorff distance of a trained model on the test part, by evaluate.json."""
    chosen = {
        "output_dir": str(output),
        "model_dir": str(model),
        "data": {"training": [], "validation": [], "test": items(task, volumes, "test")},
        "labels": task["labels"],
        "background_values": [],
        "pretrained_weights": None,
        **overrides,
    }
    files = ["train.json", *([] if overlay is None else [overlay]), "evaluate.json"]
    workflow("gvsl_seg_heart", files, chosen).run()
    return {"test": json.loads((output / "metrics.json").read_text())}
