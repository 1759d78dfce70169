# SPDX-License-Identifier: Apache-2.0
"""Task files: which volumes a task has, which methods it compares and how they train."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from benchmarks.bundles import BENCHMARKS
from custom.files import read_json

TASKS = BENCHMARKS / "tasks"
CLASSIFICATION = ("gvsl_covid_cls",)  # the other downstream bundles segment
Overrides = dict[str, Any]  # keys of a bundle's train.json with their values


@dataclass(frozen=True)
class Recipe:
    """How a task pre-trains and trains: "recipe" of its file. benchmarks/README.md explains every key."""

    downstream: Overrides = field(default_factory=dict)
    linear: Overrides = field(default_factory=dict)
    learning_rates: dict[str, list[float]] = field(default_factory=dict)
    search_seeds: int = 1
    pretraining: Overrides | None = None
    gvsl: str | None = None
    keep_every: int = 100
    shared: list[str] = field(default_factory=list)
    ablation: dict[str, Any] | None = None

    def rates(self, protocol: str) -> list[float]:
        """The learning rates to choose from in a protocol; "encoder" and "propagated" have those of "fine_tuned"."""
        return self.learning_rates["fine_tuned" if protocol in ("encoder", "propagated") else protocol]

    def overrides(self, protocol: str = "", pretraining: Overrides | None = None) -> Overrides:
        """Overrides for the downstream bundle.

        Args:
            protocol: "linear" adds the overrides of that name.
            pretraining: the pre-training to share settings with; by default that of the recipe.
        """
        pretraining = pretraining or self.pretraining or {}
        shared = {name: pretraining[name] for name in self.shared}
        return {**shared, **self.downstream, **(self.linear if protocol == "linear" else {})}


@dataclass(frozen=True)
class TaskFile:
    """The content of a task file. benchmarks/README.md explains every key."""

    name: str
    recipe: Recipe
    bundle: str | None = None
    labelled: int | list[int] = 0
    probe_voxels: int = 6000
    methods: dict[str, dict[str, Any]] = field(default_factory=lambda: {"gvsl": {}})
    pretrained_in: str | None = None
    source: str | None = None
    files: dict[str, str] = field(default_factory=lambda: {name: name + "/{}.nii.gz" for name in ("images", "labels")})
    split: dict[str, list[str]] | None = None
    drawn: str = ""
    unlabelled: dict[str, Any] | None = None
    labels: dict[str, int] | None = None
    absent: dict[str, list[str]] = field(default_factory=dict)
    clip: tuple[float, float] | None = None
    shift: float = 0
    body_above: float | None = None
    reduce: int = 1
    merge: dict[str, list[int]] = field(default_factory=dict)
    even_and_odd_above: int | None = None
    decathlon: str | None = None
    page: str = ""
    licence: str = ""
    quick: dict[str, Any] | None = None

    @property
    def counts(self) -> list[int | None]:
        """The numbers of labelled volumes that cells are named after; [None] if the task has a single number."""
        return self.labelled if isinstance(self.labelled, list) else [None]


def read_task_file(name: str) -> TaskFile:
    """Reads a task file.

    Args:
        name: of a file in benchmarks/tasks, or a path that ends with .json.

    Raises:
        ValueError: there is no such file, it lacks its name or recipe, or it has an unknown key.
    """
    path = Path(name) if name.endswith(".json") else TASKS / f"{name}.json"
    if not path.is_file():
        known = sorted(entry.stem for entry in TASKS.glob("*.json"))
        raise ValueError(f"task {name!r} is not known, expected one of {known} or a file of that kind")
    content = read_json(path, "a task file")
    if not isinstance(content.get("recipe"), dict) or "name" not in content:
        raise ValueError(f'{path} has the keys {sorted(content)}, expected "name" and an object "recipe" among them')
    for kind, part in ((TaskFile, content), (Recipe, content["recipe"])):
        if unknown := sorted(set(part) - {entry.name for entry in fields(kind)}):
            raise ValueError(f"{path} has unknown keys {unknown}, expected some of {[e.name for e in fields(kind)]}")
    return TaskFile(**content | {"recipe": Recipe(**content["recipe"])})


def shortened(task: TaskFile) -> TaskFile:
    """A task with the changes of its "quick" and one learning rate a protocol.

    Raises:
        ValueError: the task has no "quick".
    """
    if task.quick is None:
        raise ValueError(f'task {task.name} has no "quick"')
    recipe, quick = task.recipe, task.quick
    short = {part: getattr(recipe, part) | quick[part] for part in ("pretraining", "downstream") if part in quick}
    rates = {protocol: rates[:1] for protocol, rates in recipe.learning_rates.items()}
    changed = {name: quick[name] for name in ("labelled", "labels") if name in quick}
    return replace(task, **changed, recipe=replace(recipe, **short, learning_rates=rates))
