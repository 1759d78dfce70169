# SPDX-License-Identifier: Apache-2.0
"""A task that is ready to be measured: its methods, its volumes and where the weights of each method lie."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from benchmarks.bundles import ROOT, pretext_overlays

from .task_file import Overrides, Recipe, TaskFile, read_task_file, shortened
from .volumes import Cohort, read_cohort

RANDOM = "scratch"  # the method that starts from random weights


@dataclass(frozen=True)
class Pretraining:
    """How a task pre-trains a method."""

    overrides: Overrides  # for the train.json of gvsl_pretrain
    overlays: list[str]  # files in its configs that are laid over train.json, in this order
    source: str | None  # folder in --data with other volumes; None for the unlabelled volumes of the task


@dataclass(frozen=True)
class Task:
    """A task with its volumes and folders."""

    file: TaskFile
    cohort: Cohort
    data: Path  # folder with the sources of all tasks
    work: Path  # folder for the copies, weights and logs of all tasks
    results: Path  # file for the results of this task
    pretrained_in: Task | None = None  # the task whose pre-trainings this one uses; None if it pre-trains by itself

    @property
    def recipe(self) -> Recipe:
        """How the task pre-trains and trains."""
        return self.file.recipe

    @property
    def folder(self) -> Path:
        """The folder of the task for copies, weights and logs."""
        return self.work / self.file.name

    @property
    def pretraining_task(self) -> Task:
        """The task that pre-trains the methods of this one: another or itself."""
        return self.pretrained_in or self

    def methods(self, chosen: list[str]) -> list[str]:
        """See `chosen_methods`."""
        return chosen_methods(self.file, chosen)

    def weights(self, method: str, seed: int) -> Path | None:
        """Where the weights lie that a method starts from: a file or folder, or None for random weights.

        They were pre-trained with this seed, by this task or by the one that it shares pre-trainings with; or by
        another task that the method names; or they are a shipped file, by default the backbone of the bundle.
        """
        own = self.file.methods.get(method, {})
        if method == RANDOM:
            return None
        if pretraining_of(self.pretraining_task.file, method):
            return self.pretraining_task.folder / f"{method}_seed{seed}"
        if "task" in own:
            return self.work / own["task"] / f"{own['method']}_seed{seed}"
        return ROOT / own.get("weights", f"bundles/{self.file.bundle}/models/backbone.pt")


def prepare_task(name: str, data: Path, work: Path, results: Path, quick: bool = False) -> Task:
    """Reads a task file and prepares the volumes.

    Args:
        name: of a file in benchmarks/tasks, or a path that ends with .json.
        data: folder with the sources of all tasks.
        work: folder for copies, weights and logs.
        results: folder for the results of all tasks.
        quick: makes the changes of the file's "quick".
    """
    file = shortened(read_task_file(name)) if quick else read_task_file(name)
    other = prepare_task(file.pretrained_in, data, work, results, quick) if file.pretrained_in else None
    return Task(file, read_cohort(file, data, work), data, work, results / f"{file.name}.jsonl", other)


def chosen_methods(file: TaskFile, chosen: list[str]) -> list[str]:
    """Names of methods of a task without repetition.

    Args:
        file: the task.
        chosen: names; "all" stands for random initialisation, every pretext overlay and GVSL. An empty list stands for
            random initialisation and the methods of the task file.

    Raises:
        ValueError: a name is not known.
    """
    own = [RANDOM, *file.methods]
    pretexts = pretexts_of(read_task_file(file.pretrained_in) if file.pretrained_in else file)
    known = {name: [name] for name in (*own, *pretexts)} | {"all": [RANDOM, *pretexts, "gvsl"]}
    if unknown := [name for name in chosen if name not in known]:
        raise ValueError(f"methods {unknown} are not known for {file.name}, expected some of {list(known)}")
    return list(dict.fromkeys(chain.from_iterable(known[name] for name in chosen))) if chosen else own


def pretraining_of(file: TaskFile, method: str) -> Pretraining | None:
    """How a task pre-trains a method; None where the method's weights are random, shipped or made by another task."""
    own, pretexts = file.methods.get(method, {}), pretexts_of(file)
    if method == "gvsl" and file.recipe.pretraining is None:
        return None
    if method != "gvsl" and method not in pretexts and not {"pretraining", "gvsl"} & set(own):
        return None
    overlays = [f"pretext/{method}.json"] if method in pretexts else []
    has_own_loss = "loss" in pretexts.get(method, {})
    gvsl = None if has_own_loss else own.get("gvsl", file.recipe.gvsl)
    overrides = (own.get("pretraining") or file.recipe.pretraining) | own.get("overrides", {})
    return Pretraining(overrides, [gvsl, *overlays] if gvsl else overlays, own.get("source"))


def pretexts_of(file: TaskFile) -> dict[str, Overrides]:
    """The overlays that are methods of a task: all of gvsl_pretrain's, or none if the task pre-trains nothing."""
    return {} if file.recipe.pretraining is None else pretext_overlays()
