# SPDX-License-Identifier: Apache-2.0
"""What the cells measure: each function runs a bundle's own configs with overrides and returns what is to be stored.

Arguments that mean the same in all functions:
    overrides: for the train.json of gvsl_pretrain.
    downstream: the downstream bundle of the task.
    weights: of the backbone, or None for random initialisation.
    seed: of the random weights and of the choice of labelled volumes.
    output: folder for weights and tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from monai.transforms import ResizeWithPadOrCrop
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler

from benchmarks.bundles import workflow
from custom.figures import read_table
from custom.files import read_json, write_csv
from custom.handlers import ModelExport, SegmentationReport
from custom.registration import label_dice, read_label
from custom.weights import read_weights

from .example import write_example
from .probe import UNKNOWN, local_features, moved, probe_auc, probe_dice, rank_share
from .task_file import CLASSIFICATION, Overrides
from .volumes import Cohort, Items

PAIR_KEYS = (("", "image"), ("_label", "label"), ("_subject", "subject"))
Result = dict[str, Any]


@dataclass(frozen=True)
class Downstream:
    """The downstream bundle as a task trains it."""

    cohort: Cohort  # names the bundle and holds the volumes
    overrides: Overrides  # for its train.json
    overlays: Sequence[str] = ()  # files in its configs that are laid over train.json

    def workflow(self, settings: Overrides, training: Items | None = None, evaluate: bool = False) -> ConfigWorkflow:
        """The initialised workflow.

        Args:
            settings: more overrides, of this measurement.
            training: the training volumes; none by default.
            evaluate: whether evaluate.json is laid over the other files.
        """
        cohort, files = self.cohort, ["train.json", *self.overlays, *(["evaluate.json"] if evaluate else [])]
        labels = {} if cohort.labels is None else {"labels": cohort.labels}
        data = {"training": training or [], "validation": cohort.validation, "test": cohort.test}
        return workflow(cohort.bundle, files, {"data": data, **labels, **settings, **self.overrides})


def pretrain(overrides: Overrides, overlays: Sequence[str], output: Path, every: int) -> Result:
    """Pre-trains with gvsl_pretrain and its `overlays`; weights of every `every` iterations go to output/steps/STEP.

    Returns:
        {"validation": rows of validation.csv, "training": means of training.csv over each epoch}
    """
    chosen = {"output_dir": str(output), "resume": True, "figures": False, **overrides}
    built = workflow("gvsl_pretrain", ["train.json", *overlays], chosen)
    trainer = built.parser.get_parsed_content("train#trainer")
    handlers = built.parser.get_parsed_content("train#handlers")
    export = next(handler for handler in handlers if isinstance(handler, ModelExport))

    def store(engine) -> None:
        if engine.state.iteration % every == 0:
            final, export.directory = export.directory, str(output / "steps" / str(engine.state.iteration))
            export.save(engine)
            export.directory = final

    trainer.add_event_handler(Events.STARTED, lambda engine: store(engine) if engine.state.iteration == 0 else None)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, store)
    built.run()
    training = means(read_numbers(output / "training.csv"), built.parser.get_parsed_content("iterations_per_epoch"))
    return {"validation": read_numbers(output / "validation.csv"), "training": training}


def unlabelled_data(cohort: Cohort) -> Overrides:
    """Overrides that give gvsl_pretrain the volumes of a cohort, and pairs of its validation volumes with labels.

    Volumes with absent structures form no pairs. A cohort without a downstream bundle gives none: gvsl_pretrain then
    has its own phantoms.
    """
    if cohort.bundle is None:
        return {}
    complete = [item for item in cohort.validation if not item.get("absent")]
    pairs = [
        {f"{side}{suffix}": item[key] for side, item in (("moving", a), ("fixed", b)) for suffix, key in PAIR_KEYS}
        for a in complete
        for b in complete
        if a is not b
    ][:8]
    training = [{name: item[name] for name in ("image", "subject")} for item in cohort.pretraining]
    return {"data": {"training": training, "validation": pairs}, "labels": list(cohort.labels.values())}


def variant(
    downstream: Downstream, overrides: Overrides, overlays: Sequence[str], output: Path, every: int, probes: int = 0
) -> Result:
    """Pre-trains as `pretrain` does, and probes the weights of every `every` iterations on the validation part; the
    last `probes` of them, or all for 0.

    Returns:
        {"pairs": rows of validation.csv, "probes": {iterations: result of `probe`}}
    """
    pairs = pretrain(unlabelled_data(downstream.cohort) | overrides, overlays, output, every)["validation"]
    steps, seed = sorted(int(folder.name) for folder in (output / "steps").iterdir())[-probes:], overrides["seed"]
    scores = {step: probe(downstream, output / "steps" / str(step), seed, part="validation") for step in steps}
    return {"pairs": pairs, "probes": scores}


def probe(downstream: Downstream, weights: Path | None, seed: int, part: str) -> Result:
    """Converged linear probe of a backbone's features on the "validation" or "test" part.

    Segmentation: mean Dice from local features, on volumes as they are and randomly moved. Classification: AUC from
    pooled encoder features.
    """
    labelled = downstream.cohort.labelled_items(seed)
    items = [labelled, getattr(downstream.cohort, part)]
    backbone, (training, test), labels = backbone_and_volumes(downstream, weights, seed, items)
    if downstream.cohort.bundle in CLASSIFICATION:
        return {"score": round(probe_auc(backbone, training, test), 4)} | drawn(labelled)
    tests, voxels = [test, moved(test)], downstream.cohort.probe_voxels
    as_is, randomly_moved = probe_dice(backbone, training, tests, len(labels) + 1, voxels)
    return {
        "score": mean_dice(as_is),
        "score_moved": mean_dice(randomly_moved),
        "dice_of_structures": dict(zip(labels, np.nanmean(as_is, axis=0).round(4).tolist(), strict=True)),
        **drawn(labelled),
    }


def rank(downstream: Downstream, weights: Path | None, seed: int) -> Result:
    """Effective rank of the features on all validation and test volumes, which is low where features have collapsed.

    Returns:
        {"rank": {"local": share, "bottleneck": share}}, in percent of the channels.
    """
    items = [downstream.cohort.validation + downstream.cohort.test]
    backbone, (volumes,), _ = backbone_and_volumes(downstream, weights, seed, items)
    backbone.eval()
    images, functions = [image for image, _ in volumes], {"local": backbone, "bottleneck": backbone.forward_bottleneck}
    return {"rank": {name: round(rank_share(function, images), 1) for name, function in functions.items()}}


def embedding(downstream: Downstream, weights: Path | None, seed: int, points: int = 2000) -> Result:
    """Local features of a validation volume in two dimensions (t-SNE of standardised features), by structure.

    Equally many voxels of each structure are drawn, or all if it has fewer; `points` in all.

    Returns:
        {"points": {structure: [[x, y], ...]}}
    """
    items = [downstream.cohort.validation[:1]]
    backbone, (((image, label),),), labels = backbone_and_volumes(downstream, weights, seed, items)
    generator, values = np.random.default_rng(0), label.flatten().numpy()
    inside = {name: np.flatnonzero(values == index) for index, name in enumerate(labels, start=1)}
    inside = {name: indices for name, indices in inside.items() if len(indices)}
    voxels = points // len(inside)
    chosen = {name: generator.choice(i, min(voxels, len(i)), replace=False) for name, i in inside.items()}
    features = local_features(backbone.eval(), image)[np.concatenate([*chosen.values()])]
    features = StandardScaler().fit_transform(features)
    points = TSNE(init="pca", perplexity=min(30, len(features) - 1), random_state=0).fit_transform(features).round(2)
    ends = np.cumsum([len(indices) for indices in chosen.values()])[:-1]
    return {"points": {name: part.tolist() for name, part in zip(chosen, np.split(points, ends), strict=True)}}


def train(downstream: Downstream, weights: Path | None, seed: int, output: Path, refine: int | None = None) -> Result:
    """Trains the downstream bundle on the labelled volumes of the seed; with `refine` also on the others with labels
    that are propagated to them, with these steps of refinement.

    Returns:
        {"validation": [{"iteration": ..., "score": ...}, ...], "labelled_subjects": as of `drawn`}
    """
    settings = {"output_dir": str(output), "seed": seed, "resume": True, "figures": False}
    settings["pretrained_weights"] = None if weights is None else str(weights)
    labelled = items = downstream.cohort.labelled_items(seed)
    if refine is not None:
        subjects = {item["subject"] for item in labelled}
        others = [item for item in downstream.cohort.pretraining if item["subject"] not in subjects]
        items = labelled + labelled_by_atlases(others, labelled, weights, output / "propagated", refine)
    downstream.workflow(settings, items).run()
    column = "roc_auc" if downstream.cohort.bundle in CLASSIFICATION else "mean_dice"
    rows = read_numbers(output / "validation.csv")
    return {"validation": [{"iteration": row["iteration"], "score": row[column]} for row in rows]} | drawn(labelled)


def registered(cohort: Cohort, weights: Path, seed: int, output: Path, refine: int) -> Result:
    """Mean Dice of the test volumes, for which the labelled volumes of the seed vote as atlases; nothing is trained.

    Returns:
        {"score": mean Dice, "test": {"cases": number, "dice": {"overall" or structure: {"mean": Dice}}},
        "labelled_subjects": as of `drawn`}
    """
    labelled = cohort.labelled_items(seed)
    voted = labelled_by_atlases(cohort.test, labelled, weights, output, refine)
    pairs = [[read_label(item["label"])[0] for item in volume] for volume in zip(voted, cohort.test, strict=True)]
    of_cases = [label_dice(*pair) for pair in pairs]
    dice = np.array([[of_case.get(value, np.nan) for value in cohort.labels.values()] for of_case in of_cases])
    score = mean_dice(dice)
    means = dict(zip(cohort.labels, np.nanmean(dice, axis=0).round(4).tolist(), strict=True))
    entries = {name: {"mean": mean} for name, mean in ({"overall": score} | means).items()}
    return {"score": score, "test": {"cases": len(dice), "dice": entries}} | drawn(labelled)


def drawn(labelled: Items) -> Result:
    """{"labelled_subjects": names}: which labelled volumes a seed drew, so that equal draws of two seeds are seen."""
    return {"labelled_subjects": [item["subject"] for item in labelled]}


def labelled_by_atlases(volumes: Items, labelled: Items, weights: Path, output: Path, refine: int) -> Items:
    """The volumes with label maps that registered atlases vote for (`propagate.json`).

    Args:
        volumes: what is labelled; labels that they have are not read.
        labelled: labelled volumes; those with all structures are the atlases.
        weights: folder of backbone and heads, or the file of the backbone in it.
        output: folder of the label maps.
        refine: steps of refinement of each pair.
    """
    data = [{"image": item["image"], "subject": item["subject"], "output": item["subject"]} for item in volumes]
    atlases = [item for item in labelled if not item.get("absent")]
    rows = [{key: Path(item[key]).absolute() for key in ("image", "label")} for item in atlases]
    write_csv(output / "atlases.csv", rows, ("image", "label"), "the atlases")
    settings = {"atlas_dir": str(output / "atlases.csv"), "data": data, "refine": refine, "output_dir": str(output)}
    settings["model_dir"] = str(weights if weights.is_dir() else weights.parent)
    workflow("gvsl_pretrain", ["register.json", "propagate.json"], settings, "infer").run()
    return [
        {"image": item["image"], "subject": item["subject"], "label": str(output / f"{item['subject']}_label.nii.gz")}
        for item in volumes
    ]


def test(downstream: Downstream, model: Path) -> Result:
    """Evaluates the trained model in a folder on the test part; its folder evaluation holds tables, pictures and, of a
    segmentation, the first case (`write_example`).

    Returns:
        {"score": mean Dice or AUC, "test": content of metrics.json but for what it says of the weights}
    """
    output = model / "evaluation"
    settings = {"output_dir": str(output), "model_dir": str(model), "pretrained_weights": None}
    built = downstream.workflow(settings, evaluate=True)
    built.run()
    for handler in built.parser.get_parsed_content("validate#handlers"):
        if isinstance(handler, SegmentationReport):
            write_example(output, handler)
    report = read_json(output / "metrics.json")
    score = report["auc"] if downstream.cohort.bundle in CLASSIFICATION else report["dice"]["overall"]["mean"]
    return {"score": score, "test": {name: report[name] for name in report if name not in ("weights", "notice")}}


def backbone_and_volumes(
    downstream: Downstream, weights: Path | None, seed: int, lists: list[Items]
) -> tuple[torch.nn.Module, list[list[tuple[torch.Tensor, torch.Tensor]]], dict[str, int]]:
    """The backbone of the downstream bundle; for each list of items its (volume, label), preprocessed as for training;
    the values of the structures. Background of volumes with absent structures is UNKNOWN."""
    built = downstream.workflow({"seed": seed})
    backbone = built.parser.get_parsed_content("backbone")
    if weights is not None:
        backbone.load_state_dict(read_weights(weights)[0])
    preprocess = built.parser.get_parsed_content("validate#preprocessing")
    crop = ResizeWithPadOrCrop(built.parser.get_parsed_content("patch_size"))

    def load(item: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        volume = preprocess(dict(item))
        label = torch.as_tensor(volume["label"]).round().long()
        if item.get("absent"):
            label[label == 0] = UNKNOWN
        image = torch.as_tensor(crop(torch.as_tensor(volume["image"]).float()))
        return image, torch.as_tensor(crop(label)) if label.ndim else label

    return backbone, [[load(item) for item in items] for items in lists], built.parser.get_parsed_content("labels")


def mean_dice(values: np.ndarray) -> float:
    """Mean over volumes of the mean over structures, of Dice (volumes, structures)."""
    return round(float(np.nanmean(np.nanmean(values, axis=1))), 4)


def read_numbers(path: Path) -> list[dict[str, float]]:
    """The rows of a CSV of numbers."""
    table = {name: values.tolist() for name, values in read_table(path).items()}
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


def means(rows: list[dict[str, float]], every: int) -> list[dict[str, float]]:
    """The mean of each `every` rows; its "iteration" is that of the last row."""
    return [
        {name: float(np.mean([row[name] for row in rows[first : first + every]])) for name in rows[0]}
        | {"iteration": rows[min(first + every, len(rows)) - 1]["iteration"]}
        for first in range(0, len(rows), every)
    ]
