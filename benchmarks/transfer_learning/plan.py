# SPDX-License-Identifier: Apache-2.0
"""Which cells a task has, in which order, and where their weights lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import chain, product, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from . import cells
from .report import DRAWN
from .running import Cell, Progress, read_cell, run_cells, worker_pool
from .tasks import ROOT, prepare_task, pretext_overlays, read_overlay, read_task, training_name

OVERLAYS = {"linear": "linear.json", "fine_tuned": None, "encoder": None}
PARTS: dict[str, list[str]] = {"fine_tuned": [], "encoder": ["encoder"]}  # of the weights; none stands for all
PROTOCOLS = ("probe", "linear", "fine_tuned", "encoder", "rank", "features")


def run_tasks(tasks: list[Task], methods: list[str], protocols: list[str], seeds: list[int], workers: int) -> None:
    """Measures the cells that have no file yet."""
    progress = Progress(planned(tasks, methods, protocols, seeds), workers)
    before: list[Cell] = []
    with worker_pool(workers) as pool:
        for stages in zip_longest(*(task.stages(methods, protocols, seeds) for task in tasks), fillvalue=()):
            stage = list(chain.from_iterable(stages))
            run_cells(stage, pool, progress, before)
            before += stage


def planned(tasks: list[Task], methods: list[str], protocols: list[str], seeds: list[int]) -> Counter[str]:
    """How many cells of each kind there will be; tasks may share pre-trainings."""
    stages = chain.from_iterable(task.stages(methods, protocols, seeds, searched=False) for task in tasks)
    return Counter({cell.path: cell.kind for cell in chain.from_iterable(stages)}.values())


def run_variants(task: Task, names: list[str], seeds: list[int], workers: int) -> None:
    """Measures the variants of a task's recipe that have no file yet."""
    variants = task.variants(names, seeds)
    with worker_pool(workers) as pool:
        run_cells(variants, pool, Progress(Counter(cell.kind for cell in variants), workers))


class Task:
    """The cells of one task.

    Args:
        name: of benchmarks/tasks, or a file like those. data: folder with the tasks' sources. work: for copies and
            weights. results: for the JSON files. quick: with the overrides of the file's "quick".
    """

    def __init__(self, name: str, data: Path, work: Path, results: Path, quick: bool = False) -> None:
        self.task = read_task(name)
        if quick:
            self.task = shortened(self.task)
        self.recipe = self.task["recipe"]
        self.others = self.task.get("methods", {"gvsl": {}})
        self.data, self.all_work = data, work
        self.work, self.results = work / self.task["name"], results / self.task["name"]
        shared = self.task.get("pretrained_in")
        self.source = Task(shared, data, work, results, quick) if shared else self
        self.overlays = pretext_overlays() if "pretraining" in self.source.recipe else {}
        self.parts = prepare_task(self.task, data, work)

    def methods(self, chosen: list[str]) -> list[str]:
        """Those chosen, or the task's own if none is; "all" stands for random initialisation, GVSL and every overlay.

        Raises:
            ValueError: a name is not known.
        """
        own = ["scratch", *self.others]
        known = {name: [name] for name in (*own, *self.overlays)} | {"all": ["scratch", *self.overlays, "gvsl"]}
        if unknown := [name for name in chosen if name not in known]:
            raise ValueError(f"methods {unknown} are not known for {self.task['name']}, expected some of {list(known)}")
        return list(dict.fromkeys(chain.from_iterable(known[name] for name in chosen))) if chosen else own

    def stages(
        self, methods: list[str], protocols: list[str], seeds: list[int], searched: bool = True
    ) -> Iterator[list[Cell]]:
        """Lists of cells that do not need one another, each needing those before.

        Before learning rates have been searched, the first of a list may stand for the best: as many cells.
        """
        chosen = self.methods(methods)
        pretrained = [method for method in chosen if self.source.pretrains(method)]
        others = [method for method in chosen if method != "scratch"]
        at_random = [method for method in chosen if method == "scratch"]
        yield self.pretrainings(pretrained, seeds) + self.searches(at_random, protocols, seeds)
        yield self.searches(others, protocols, seeds)
        trained = [(method, protocol) for protocol in protocols for method in self.trained(protocol, chosen)]
        best = {which: self.best_rate(*which, seeds) if searched else self.rates(which[1])[0] for which in trained}
        yield [
            self.training(*which, rate, seed)
            for which, rate in best.items()
            for seed in seeds[len(self.searched(seeds)) :]
        ]
        yield [self.test(*which, rate, seed) for which, rate in best.items() for seed in seeds]

    def searches(self, methods: list[str], protocols: list[str], seeds: list[int]) -> list[Cell]:
        """What can be measured once the weights are there: features, and training with the seeds that choose rates."""
        return self.features(methods, protocols, seeds) + [
            self.training(method, protocol, rate, seed)
            for protocol in protocols
            for method in self.trained(protocol, methods)
            for rate in self.rates(protocol)
            for seed in self.searched(seeds)
        ]

    def kind(self, name: str) -> str:
        return f"{self.task['name']} {name}"

    def cell(
        self,
        name: str,
        kind: str,
        settings: dict[str, Any],
        measure: partial,
        makes: Path | None = None,
        needs: Path | None = None,
    ) -> Cell:
        log = self.work / "logs" / f"{name}.log"
        return Cell(self.results / f"{name}.json", self.kind(kind), settings, measure, log, makes, needs)

    def pretrains(self, method: str) -> bool:
        """Whether a method's weights are trained by this task, rather than random, shipped or another task's."""
        if method in self.overlays:
            return True
        other = self.others.get(method, {})
        return "pretraining" in (self.recipe if method == "gvsl" else other) or "gvsl" in other

    def overlays_of(self, method: str) -> list[str]:
        """Files of gvsl_pretrain on top of train.json: where the loss is that of GVSL the method's or the recipe's own
        (null for none), the pretext task's."""
        of_gvsl = "loss" not in self.overlays.get(method, {})
        own = self.others.get(method, {}).get("gvsl", self.recipe.get("gvsl")) if of_gvsl else None
        pretext = [f"pretext/{method}.json"] if method in self.overlays else []
        return [*([own] if own else []), *pretext]

    def pretrainings(self, methods: list[str], seeds: list[int]) -> list[Cell]:
        """One for each method and seed, keeping weights on the way."""
        return [self.source.pretraining_of(method, seed) for method in methods for seed in seeds]

    def pretraining_of(self, method: str, seed: int) -> Cell:
        other = self.others.get(method, {})
        source, overlays = other.get("source"), self.overlays_of(method)
        overrides = {**(other.get("pretraining") or self.recipe["pretraining"]), "seed": seed}
        given = {"source": source} if source else {"split": self.task.get("split")}
        given |= {"overlays": {name: read_overlay(name) for name in overlays}} if overlays else {}
        folder = self.data / source if source else None
        every, output = self.recipe["keep_every"], self.weights(method, seed)
        return self.cell(
            f"pretraining_{method}_seed{seed}",
            "pretraining",
            {"method": method, "seed": seed, "overrides": overrides, **given},
            partial(cells.pretrain, self.task, self.parts, overrides, output, every, overlays, folder),
            makes=output,
        )

    def variants(self, names: list[str], seeds: list[int]) -> list[Cell]:
        """Pre-trainings by variants of the recipe, probed on the validation part on the way; all by default.

        Raises:
            ValueError: a name is not known.
        """
        ablation = self.recipe["ablation"]
        if unknown := [name for name in names if name not in ablation["variants"]]:
            raise ValueError(f"variants {unknown} are not known, expected some of {list(ablation['variants'])}")
        result = []
        for name, seed in product(names or ablation["variants"], seeds):
            chosen = ablation["variants"][name]
            overrides = {**self.recipe["pretraining"], **ablation["shared"], **chosen, "seed": seed}
            output, every = self.work / "ablation" / f"{name}_seed{seed}", ablation["keep_every"]
            downstream = self.downstream(pretraining=overrides)
            measure = partial(cells.variant, self.task, self.parts, overrides, output, every, downstream)
            settings = {"variant": name, "seed": seed, "overrides": overrides, "split": self.task["split"]}
            result.append(self.cell(f"ablation_{name}_seed{seed}", "ablation", settings, measure))
        return result

    def weights(self, method: str, seed: int) -> Path | None:
        """Those that a method pre-trained here or in another task, or shipped ones: by default the bundle's."""
        if method == "scratch":
            return None
        if self.source.pretrains(method):
            return self.source.work / f"{method}_seed{seed}"
        other = self.others.get(method, {})
        if "task" in other:
            return self.all_work / other["task"] / f"{other['method']}_seed{seed}"
        return ROOT / other.get("weights", f"bundles/{self.task['bundle']}/models/backbone.pt")

    def features(self, methods: list[str], protocols: list[str], seeds: list[int]) -> list[Cell]:
        """Probes on the test part and, along GVSL's pre-training, on the validation part; ranks; features to draw."""
        result = []
        if "probe" in protocols:
            result += [self.probe(method, seed) for method in methods for seed in seeds]
            if "gvsl" in methods and self.pretrains("gvsl"):
                length, every = self.recipe["pretraining"], self.recipe["keep_every"]
                steps = range(0, length["max_epochs"] * length["iterations_per_epoch"] + 1, every)
                result += [self.probe("gvsl", seed, step) for seed in seeds for step in steps]
        if "rank" in protocols:
            result += [self.rank(method, seed) for method in methods for seed in seeds]
        if "features" in protocols and self.task["bundle"] not in cells.CLASSIFICATION:
            result += [self.embedding(method, seeds[0]) for method in methods if method in DRAWN]
        return result

    def probe(self, method: str, seed: int, step: int | None = None) -> Cell:
        part, ending = ("test", f"seed{seed}") if step is None else ("validation", f"seed{seed}_step{step}")
        settings = {"method": method, "protocol": "probe", "seed": seed, "part": part}
        settings |= {} if step is None else {"step": step}
        weights = self.weights(method, seed)
        read = weights if step is None else weights / "steps" / str(step)
        measure = partial(cells.probe, self.task, self.parts, self.downstream(), read, seed, part)
        return self.cell(f"probe_{method}_{ending}", "probe", settings, measure, needs=weights)

    def rank(self, method: str, seed: int) -> Cell:
        weights, settings = self.weights(method, seed), {"method": method, "protocol": "rank", "seed": seed}
        measure = partial(cells.rank, self.task, self.parts, self.downstream(), weights, seed)
        return self.cell(f"rank_{method}_seed{seed}", "rank", settings, measure, needs=weights)

    def embedding(self, method: str, seed: int) -> Cell:
        weights, settings = self.weights(method, seed), {"method": method, "protocol": "features", "seed": seed}
        measure = partial(cells.embedding, self.task, self.parts, self.downstream(), weights, seed)
        return self.cell(f"features_{method}_seed{seed}", "features", settings, measure, needs=weights)

    def downstream(
        self, protocol: str | None = None, pretraining: dict[str, Any] | None = None, **more: Any
    ) -> dict[str, Any]:
        """Overrides of the downstream bundle's train.json; those of "linear" for that protocol alone."""
        pretraining = pretraining or self.recipe.get("pretraining", {})
        shared = {name: pretraining[name] for name in self.recipe.get("shared", ())}
        own = self.recipe.get("linear", {}) if protocol == "linear" else {}
        return {**shared, **self.recipe["downstream"], **own, **more}

    def trained(self, protocol: str, methods: list[str]) -> list[str]:
        """Those of the methods that a protocol trains: none for probes; with the encoder's weights alone only methods
        that have weights, where there is a decoder."""
        if protocol == "encoder":
            return [] if self.task["bundle"] in cells.CLASSIFICATION else [m for m in methods if m != "scratch"]
        return methods if protocol in OVERLAYS else []

    def rates(self, protocol: str) -> list[float]:
        return self.recipe["learning_rates"]["fine_tuned" if protocol == "encoder" else protocol]

    def searched(self, seeds: list[int]) -> list[int]:
        """The seeds that choose the learning rate."""
        return seeds[: self.recipe.get("search_seeds", 1)]

    def training(self, method: str, protocol: str, rate: float, seed: int) -> Cell:
        foreign = self.others.get(method) or self.source is not self
        accepted = {"accept_mismatch": ["spacing", "intensity"]} if foreign and method != "scratch" else {}
        parts = {"pretrained_parts": PARTS[protocol]} if protocol in PARTS else {}
        overrides = self.downstream(protocol, learning_rate=rate, **accepted, **parts)
        output, overlay = self._output(method, protocol, rate, seed), OVERLAYS[protocol]
        weights = self.weights(method, seed)
        return self.cell(
            output.name,
            protocol,
            {"method": method, "protocol": protocol, "seed": seed, "learning_rate": rate, "overrides": overrides},
            partial(cells.train, self.task, self.parts, overrides, overlay, weights, seed, output),
            makes=output,
            needs=weights,
        )

    def best_rate(self, method: str, protocol: str, seeds: list[int]) -> float:
        """The learning rate whose best validation score is highest, mean of the seeds that choose."""

        def score(rate: float) -> float:
            results = [read_cell(self.training(method, protocol, rate, seed)) for seed in self.searched(seeds)]
            return float(np.mean([max(point["score"] for point in result["validation"]) for result in results]))

        return max(self.rates(protocol), key=score)

    def test(self, method: str, protocol: str, rate: float, seed: int) -> Cell:
        model, overrides = self._output(method, protocol, rate, seed), self.downstream(protocol, learning_rate=rate)
        return self.cell(
            f"test_{protocol}_{method}_seed{seed}",
            "test",
            {"method": method, "protocol": protocol, "seed": seed, "learning_rate": rate},
            partial(cells.test, self.task, self.parts, overrides, OVERLAYS[protocol], model, model / "evaluation"),
            needs=model,
        )

    def _output(self, method: str, protocol: str, rate: float, seed: int) -> Path:
        return self.work / training_name(protocol, method, rate, seed)


def shortened(task: dict[str, Any]) -> dict[str, Any]:
    """A task with the overrides, labels and number of labelled volumes of its "quick" and one learning rate a protocol.

    Raises:
        ValueError: it has none.
    """
    if "quick" not in task:
        raise ValueError(f'task {task["name"]} has no "quick"')
    recipe, quick = task["recipe"], task["quick"]
    short = {part: {**recipe[part], **quick[part]} for part in ("pretraining", "downstream") if part in recipe}
    rates = {protocol: rates[:1] for protocol, rates in recipe.get("learning_rates", {}).items()}
    given = {name: quick[name] for name in ("labelled", "labels") if name in quick}
    return {**task, **given, "recipe": {**recipe, **short, "learning_rates": rates}}
