# SPDX-License-Identifier: Apache-2.0
"""What the cells of the transfer table measure: each runs a bundle's own configs with overrides."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.transforms import ResizeWithPadOrCrop
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler

from custom.handlers import ModelExport
from custom.weights import read_weights

from .probe import local_features, moved, probe_auc, probe_dice, rank_share
from .tasks import Items, labelled_items, workflow

Parts = dict[str, Items]
PAIR_KEYS = (("", "image"), ("_label", "label"), ("_subject", "subject"))
CLASSIFICATION = ("gvsl_covid_cls",)  # the other downstream bundles segment


def metric_of(bundle: str) -> tuple[str, tuple[str, ...]]:
    """The column of validation.csv that counts, and its place in the metrics.json of a test."""
    return ("roc_auc", ("auc",)) if bundle in CLASSIFICATION else ("mean_dice", ("dice", "overall", "mean"))


def pretrain(
    task: dict[str, Any],
    parts: Parts,
    overrides: dict[str, Any],
    output: Path,
    every: int,
    overlays: Sequence[str] = (),
    source: Path | None = None,
) -> dict[str, Any]:
    """Pre-trains on the unlabelled part; weights of every `every` iterations go to output/steps/ITERATIONS.

    Pairs of the validation part are the held-out pairs. A task without parts pre-trains on the config's own data; with
    `source`, a folder of other volumes takes their place. `overlays` are files of gvsl_pretrain's configs on top of
    train.json.

    Returns:
        the rows of validation.csv, and the means of training.csv over each epoch.
    """
    data = {"dataset_dir": str(source)} if source else unlabelled_data(task, parts) if parts else {}
    built = workflow(
        "gvsl_pretrain",
        ["train.json", *overlays],
        {"output_dir": str(output), "resume": True, "figures": False, **data, **overrides},
    )
    trainer = built.parser.get_parsed_content("train#trainer")
    handlers = built.parser.get_parsed_content("train#handlers")
    export = next(handler for handler in handlers if isinstance(handler, ModelExport))

    def keep(engine) -> None:
        if engine.state.iteration % every == 0:
            final, export.directory = export.directory, str(output / "steps" / str(engine.state.iteration))
            export.save(engine)
            export.directory = final

    trainer.add_event_handler(Events.STARTED, lambda engine: keep(engine) if engine.state.iteration == 0 else None)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, keep)
    built.run()
    iterations = built.parser.get_parsed_content("iterations_per_epoch")
    return {
        "validation": table(output / "validation.csv"),
        "training": means(table(output / "training.csv"), iterations),
    }


def means(rows: list[dict[str, float]], every: int) -> list[dict[str, float]]:
    """Of each `every` rows, under the iteration of the last."""
    return [
        {name: float(np.mean([row[name] for row in rows[first : first + every]])) for name in rows[0]}
        | {"iteration": rows[min(first + every, len(rows)) - 1]["iteration"]}
        for first in range(0, len(rows), every)
    ]


def variant(
    task: dict[str, Any], parts: Parts, overrides: dict[str, Any], output: Path, every: int, downstream: dict[str, Any]
) -> dict[str, Any]:
    """A pre-training, and the probe of its weights on the validation part on the way."""
    pairs = pretrain(task, parts, overrides, output, every)["validation"]
    steps = sorted(int(folder.name) for folder in (output / "steps").iterdir())
    seed, kept = overrides["seed"], output / "steps"
    probes = {step: probe(task, parts, downstream, kept / str(step), seed, part="validation") for step in steps}
    return {"pairs": pairs, "probes": probes}


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
    with path.open(encoding="utf-8", newline="") as file:
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
    items = [labelled_items(task, parts, seed), parts[part]]
    backbone, (training, test), labels = backbone_and_volumes(task, parts, overrides, weights, seed, items)
    if task["bundle"] in CLASSIFICATION:
        return {"score": round(probe_auc(backbone, training, test), 4)}
    as_is, randomly_moved = probe_dice(backbone, training, [test, moved(test)], len(labels) + 1)
    return {
        "score": mean_dice(as_is),
        "score_moved": mean_dice(randomly_moved),
        "dice_of_structures": dict(zip(labels, np.nanmean(as_is, axis=0).round(4).tolist(), strict=True)),
    }


def rank(
    task: dict[str, Any], parts: Parts, overrides: dict[str, Any], weights: Path | None, seed: int
) -> dict[str, Any]:
    """Have the features collapsed? Their effective rank on all held-out volumes (validation and test).

    Args:
        overrides, weights, seed: as of `probe`.

    Returns:
        {"rank": {"local": share, "bottleneck": share}}, in percent of the channels.
    """
    items = [parts["validation"] + parts["test"]]
    backbone, (volumes,), _ = backbone_and_volumes(task, parts, overrides, weights, seed, items)
    backbone.eval()
    images, gives = [image for image, _ in volumes], {"local": backbone, "bottleneck": backbone.forward_bottleneck}
    return {"rank": {name: round(rank_share(features, images), 1) for name, features in gives.items()}}


def embedding(
    task: dict[str, Any], parts: Parts, overrides: dict[str, Any], weights: Path | None, seed: int, voxels: int = 40
) -> dict[str, Any]:
    """Local features of a validation volume in two dimensions (t-SNE of standardised features), by structure.

    Args:
        overrides, weights, seed: as of `probe`. voxels: drawn from each structure, all of those that have fewer.

    Returns:
        {"points": {structure: [[x, y], ...]}}
    """
    items = [parts["validation"][:1]]
    backbone, (((image, label),),), labels = backbone_and_volumes(task, parts, overrides, weights, seed, items)
    generator, values = np.random.default_rng(0), label.flatten().numpy()
    places = {name: np.flatnonzero(values == place) for place, name in enumerate(labels, start=1)}
    chosen = {
        name: generator.choice(found, min(voxels, len(found)), replace=False)
        for name, found in places.items()
        if len(found)
    }
    features = StandardScaler().fit_transform(
        local_features(backbone.eval(), image)[np.concatenate([*chosen.values()])]
    )
    points = TSNE(init="pca", perplexity=min(30, len(features) - 1), random_state=0).fit_transform(features).round(2)
    ends = np.cumsum([len(found) for found in chosen.values()])[:-1]
    return {"points": {name: part.tolist() for name, part in zip(chosen, np.split(points, ends), strict=True)}}


def backbone_and_volumes(
    task: dict[str, Any],
    parts: Parts,
    overrides: dict[str, Any],
    weights: Path | None,
    seed: int,
    lists: list[Items],
) -> tuple[torch.nn.Module, list[list[tuple[torch.Tensor, torch.Tensor]]], dict[str, int]]:
    """The downstream bundle's backbone, lists of (volume, label), preprocessed as for pre-training, and labels."""
    built = workflow(task["bundle"], ["train.json"], {**given_data(task, parts), "seed": seed, **overrides})
    backbone = built.parser.get_parsed_content("backbone")
    if weights is not None:
        backbone.load_state_dict(read_weights(weights)[0])
    preprocess = built.parser.get_parsed_content("validate#preprocessing")
    crop = ResizeWithPadOrCrop(built.parser.get_parsed_content("patch_size"))

    def load(item: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        volume = preprocess(dict(item))
        label = torch.as_tensor(volume["label"]).round().long()
        image = torch.as_tensor(crop(torch.as_tensor(volume["image"]).float()))
        return image, torch.as_tensor(crop(label)) if label.ndim else label

    return backbone, [[load(item) for item in items] for items in lists], built.parser.get_parsed_content("labels")


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
        "figures": False,
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
    report = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    score = report
    for name in metric_of(task["bundle"])[1]:
        score = score[name]
    return {"score": score, "test": report}
