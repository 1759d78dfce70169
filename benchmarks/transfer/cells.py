# SPDX-License-Identifier: Apache-2.0
"""The cells of a task: what each is called, its settings, what it measures, and which weights it needs or makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.bundles import read_pretraining_config

from . import measure
from .measure import Downstream
from .task import RANDOM, Task, pretraining_of
from .task_file import Overrides
from .volumes import Cohort, unlabelled_subjects


@dataclass(frozen=True)
class Cell:
    """One measurement: a pre-training, a probe, a training or a test."""

    results: Path  # file of the task's results
    name: str  # differs from that of every other cell in the file
    kind: str  # cells of one kind take about the same time
    settings: dict[str, Any]  # what it is measured with; they are stored with the result
    measure: Callable[[], dict[str, Any]]  # returns what is to be stored; can be pickled
    log: Path  # file for what the measurement prints
    makes: Path | None = None  # folder of the weights that it leaves
    needs: Path | None = None  # file or folder of the weights that it reads

    @property
    def key(self) -> tuple[Path, str]:
        """Two cells with equal keys are the same."""
        return self.results, self.name

    def __str__(self) -> str:
        return f"{self.name} of {self.results.stem}"


@dataclass(frozen=True)
class Training:
    """How a protocol trains the downstream bundle."""

    overlays: tuple[str, ...] = ()  # files in its configs that are laid over train.json
    overrides: Overrides = field(default_factory=dict)  # for its train.json
    refine: int | None = None  # propagates labels to the unlabelled volumes, with these steps of refinement a pair


# keys of train.json that make the method: pre-trainings with other contents are not comparable
METHOD = ("network_def", "affine_head", "deformable_head", "matching_head", "restoration_head", "pretext_network")
METHOD += ("places", "smoothness_weight", "affine_registration_weight", "contrast_weight", "smooth_field", "loss")
METHOD += ("learning_rate", "lr_cycles", "optimizer", "batch_size", "lr_scheduler", "spatial_mode")
REFINE = 20  # steps of refinement of each pair, where registration carries labels
TRAININGS = {
    "linear": Training(overlays=("linear.json",)),
    "fine_tuned": Training(overrides={"pretrained_parts": []}),  # from all pre-trained weights
    "encoder": Training(overrides={"pretrained_parts": ["encoder"]}),
    "propagated": Training(overrides={"pretrained_parts": []}, refine=REFINE),
}


def pretraining(task: Task, method: str, seed: int) -> Cell:
    """The pre-training of a method, which stores weights on the way."""
    chosen = pretraining_of(task.file, method)
    overrides, source = {**chosen.overrides, "seed": seed}, chosen.source
    settings = {"method": method, "seed": seed, "overrides": overrides}
    settings |= {"source": source} if source else volumes_of(task)
    settings |= method_settings(chosen.overlays)
    output = task.weights(method, seed)
    volumes = {"dataset_dir": str(task.data / source)} if source else measure.unlabelled_data(task.cohort)
    measured = partial(measure.pretrain, volumes | overrides, chosen.overlays, output, every=task.recipe.keep_every)
    return _cell(task, f"pretraining_{method}_seed{seed}", "pretraining", settings, measured, makes=output)


def probe(task: Task, method: str, seed: int, step: int | None = None, labelled: int | None = None) -> Cell:
    """A probe on the test part or, with a pre-training step, of the weights at that step on the validation part.

    Here and below `labelled` is the number of labelled volumes, None for that of the cohort.
    """
    part, ending = ("test", "") if step is None else ("validation", f"_step{step}")
    settings = {"method": method, "protocol": "probe", "seed": seed, "part": part}
    settings |= ({} if step is None else {"step": step}) | ({"labelled": labelled} if labelled else {})
    needed = task.weights(method, seed)
    weights = needed if step is None else needed / "steps" / str(step)
    downstream = Downstream(cohort_of(task, labelled), task.recipe.overrides())
    measured = partial(measure.probe, downstream, weights, seed, part=part)
    name = f"probe_{method}{label_ending(labelled)}_seed{seed}{ending}"
    return _cell(task, name, "probe", settings, measured, needs=needed)


def frozen(task: Task, protocol: str, method: str, seed: int) -> Cell:
    """The rank of a method's features, or the features in two dimensions."""
    settings, weights = {"method": method, "protocol": protocol, "seed": seed}, task.weights(method, seed)
    function = {"rank": measure.rank, "features": measure.embedding}[protocol]
    measured = partial(function, Downstream(task.cohort, task.recipe.overrides()), weights, seed)
    return _cell(task, f"{protocol}_{method}_seed{seed}", protocol, settings, measured, needs=weights)


def registered(task: Task, method: str, seed: int, labelled: int | None = None) -> Cell:
    """The test of labels that the registration of the labelled volumes brings, without training."""
    settings = {"method": method, "protocol": "registered", "seed": seed, "refine": REFINE}
    settings |= {"labelled": labelled} if labelled else {}
    name, weights = f"registered_{method}{label_ending(labelled)}_seed{seed}", task.weights(method, seed)
    measured = partial(measure.registered, cohort_of(task, labelled), weights, seed, task.folder / name, REFINE)
    return _cell(task, name, "registered", settings, measured, needs=weights)


def training(task: Task, method: str, protocol: str, rate: float, seed: int, labelled: int | None = None) -> Cell:
    """A training of the downstream bundle with labels. The bundle accepts weights that another task pre-trained."""
    chosen, weights = TRAININGS[protocol], task.weights(method, seed)
    foreign = method != RANDOM and (task.file.methods.get(method) or task.pretrained_in)
    overrides = task.recipe.overrides(protocol) | {"learning_rate": rate} | chosen.overrides
    overrides |= {"accept_mismatch": ["spacing", "intensity"]} if foreign else {}
    name = training_name(protocol, method, rate, seed, labelled)
    settings = {"method": method, "protocol": protocol, "seed": seed, "learning_rate": rate, "overrides": overrides}
    settings |= {"labelled": labelled} if labelled else {}
    settings |= {} if chosen.refine is None else {"refine": chosen.refine}
    output, downstream = task.folder / name, Downstream(cohort_of(task, labelled), overrides, chosen.overlays)
    measured = partial(measure.train, downstream, weights, seed, output, chosen.refine)
    return _cell(task, name, protocol, settings, measured, makes=output, needs=weights)


def test(task: Task, method: str, protocol: str, rate: float, seed: int, labelled: int | None = None) -> Cell:
    """The test of a trained model on the test part."""
    overrides = task.recipe.overrides(protocol) | {"learning_rate": rate}
    settings = {"method": method, "protocol": protocol, "seed": seed, "learning_rate": rate}
    settings |= {"labelled": labelled} if labelled else {}
    model = task.folder / training_name(protocol, method, rate, seed, labelled)
    measured = partial(measure.test, Downstream(task.cohort, overrides, TRAININGS[protocol].overlays), model)
    name = f"test_{protocol}_{method}{label_ending(labelled)}_seed{seed}"
    return _cell(task, name, "test", settings, measured, needs=model)


def variant(task: Task, name: str, seed: int) -> Cell:
    """A pre-training by a variant of the recipe, with probes on the validation part on the way.

    "METHOD/NAME" is a variant of another method, whose overlay is laid over train.json.
    """
    recipe, ablation, method = task.recipe, task.recipe.ablation, name.rpartition("/")[0]
    overlays = [f"pretext/{method}.json"] if method else []
    own = {**({} if method else ablation.get("gvsl", {})), **ablation["variants"][name], "seed": seed}
    overrides = {**recipe.pretraining, **ablation["overrides"], **own}
    settings = {"variant": name, "seed": seed, "overrides": overrides, **volumes_of(task), **method_settings(overlays)}
    downstream = Downstream(task.cohort, recipe.overrides(pretraining=overrides))
    kept = {"every": ablation["keep_every"], "probes": ablation.get("probes", 0)}
    cell = f"{name.replace('/', '_')}_seed{seed}"
    measured = partial(measure.variant, downstream, overrides, overlays, task.folder / "ablation" / cell, **kept)
    return _cell(task, f"ablation_{cell}", "ablation", settings, measured)


def method_settings(overlays: list[str]) -> dict[str, Any]:
    """What train.json says of the method, and its overlays with their contents, as settings of a pre-training."""
    content = read_pretraining_config("train.json")
    method = {key: content[key] for key in METHOD}
    method |= {key: content["train"][key] for key in ("pair_transform", "spatial_transform")}
    contents = {name: read_pretraining_config(name) for name in overlays}
    return {"train": method} | ({"overlays": contents} if contents else {})


def volumes_of(task: Task) -> dict[str, Any]:
    """The volumes of a task, as settings of a pre-training."""
    unlabelled = unlabelled_subjects(task.file)
    return {"split": task.file.split} | ({"unlabelled": unlabelled} if unlabelled else {})


def cohort_of(task: Task, labelled: int | None) -> Cohort:
    """The cohort of a task with this number of labelled training volumes."""
    return replace(task.cohort, labelled=labelled) if labelled else task.cohort


def training_name(protocol: str, method: str, rate: float, seed: int, labelled: int | None = None) -> str:
    """The name of a training's cell and of its folder."""
    return f"{protocol}_{method}{label_ending(labelled)}_rate{rate:g}_seed{seed}"


def label_ending(labelled: int | None) -> str:
    """What a name says of the number of labelled volumes."""
    return f"_labelled{labelled}" if labelled else ""


def _cell(task: Task, name: str, kind: str, settings: dict, measured: partial, **weights: Path | None) -> Cell:
    log = task.folder / "logs" / f"{name}.log"
    return Cell(task.results, name, f"{task.file.name} {kind}", settings, measured, log, **weights)
