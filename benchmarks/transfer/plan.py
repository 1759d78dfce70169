# SPDX-License-Identifier: Apache-2.0
"""Which cells a run measures, and in which order.

The cells of a task come in four stages. Those of a stage do not need each other; each stage needs the ones before:

1. Pre-trainings. Beside them, what stage 2 does for random initialisation, which needs no pre-training.
2. Probes, ranks and features; trainings with every learning rate, for the seeds that choose the rate.
3. Trainings with the rate that won on the validation volumes, for the other seeds.
4. Tests of the models with that rate, one for each seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from itertools import chain, product, zip_longest

import numpy as np

from . import cells
from .cells import TRAININGS, Cell
from .report import EMBEDDED
from .results import read_results
from .running import Progress, result_of, run_cells, worker_pool
from .task import RANDOM, Task, pretraining_of
from .task_file import CLASSIFICATION

PROTOCOLS = ("probe", "linear", "fine_tuned", "encoder", "rank", "features", "propagated", "registered")


PoolMaker = Callable[[int], AbstractContextManager[Executor]]  # with the number of cells measured side by side


def run_tasks(
    tasks: list[Task],
    methods: list[str],
    protocols: list[str],
    seeds: list[int],
    workers: int,
    make_pool: PoolMaker | None = None,
) -> None:
    """Measures the cells that have no result yet; a stage of all tasks side by side, then the next stage.

    `make_pool` makes what measures them, by default processes of this machine.
    """
    progress = Progress(planned(tasks, methods, protocols, seeds), workers)
    before: list[Cell] = []
    with (make_pool or worker_pool)(workers) as pool:
        for parts in zip_longest(*(stages(task, methods, protocols, seeds) for task in tasks), fillvalue=()):
            stage = list(chain.from_iterable(parts))
            run_cells(stage, pool, progress, before)
            before += stage


def run_variants(
    task: Task, names: list[str], seeds: list[int], workers: int, make_pool: PoolMaker | None = None
) -> None:
    """Measures the variants of a task's recipe that have no result yet; `make_pool` is as in `run_tasks`."""
    variants = variant_cells(task, names, seeds)
    with (make_pool or worker_pool)(workers) as pool:
        run_cells(variants, pool, Progress(Counter(cell.kind for cell in variants), workers))


def planned(tasks: list[Task], methods: list[str], protocols: list[str], seeds: list[int]) -> Counter[str]:
    """The number of cells of each kind; a pre-training that tasks share counts once."""
    parts = chain.from_iterable(stages(task, methods, protocols, seeds, searched=False) for task in tasks)
    return Counter({cell.key: cell.kind for cell in chain.from_iterable(parts)}.values())


def stages(
    task: Task, methods: list[str], protocols: list[str], seeds: list[int], searched: bool = True
) -> Iterator[list[Cell]]:
    """The four stages of a task, as described above.

    Args:
        task: what is measured.
        methods: names, as for `Task.methods`.
        protocols: names of PROTOCOLS.
        seeds: the first of them choose the learning rates.
        searched: whether stages 1 and 2 have results. If not, the first rate stands for the one that won: the number
            of cells is the same.
    """
    chosen = task.methods(methods)
    others = [method for method in chosen if method != RANDOM]
    at_random = [method for method in chosen if method == RANDOM]
    yield pretraining_cells(task, others, seeds) + search_cells(task, at_random, protocols, seeds)
    yield search_cells(task, others, protocols, seeds)
    trained = [
        (method, protocol, labelled)
        for protocol in protocols
        for method in trained_methods(task, protocol, chosen)
        for labelled in task.file.counts
    ]
    rates = best_rates(task, trained, seeds) if searched else [task.recipe.rates(name)[0] for _, name, _ in trained]
    runs = [(*names, rate, labelled) for (*names, labelled), rate in zip(trained, rates, strict=True)]
    later = seeds[len(search_seeds(task, seeds)) :]
    yield [cells.training(task, *run, seed, labelled) for *run, labelled in runs for seed in later]
    yield [cells.test(task, *run, seed, labelled) for *run, labelled in runs for seed in seeds]


def pretraining_cells(task: Task, methods: list[str], seeds: list[int]) -> list[Cell]:
    """The pre-trainings of the methods, in this task or in the one that it shares pre-trainings with."""
    by = task.pretraining_task
    pretrained = [method for method in methods if pretraining_of(by.file, method)]
    return [cells.pretraining(by, method, seed) for method in pretrained for seed in seeds]


def search_cells(task: Task, methods: list[str], protocols: list[str], seeds: list[int]) -> list[Cell]:
    """Everything that needs pre-trained weights alone: frozen features, and trainings that choose learning rates."""
    return frozen_cells(task, methods, protocols, seeds) + [
        cells.training(task, method, protocol, rate, seed, labelled)
        for protocol in protocols
        for method in trained_methods(task, protocol, methods)
        for labelled in task.file.counts
        for rate in task.recipe.rates(protocol)
        for seed in search_seeds(task, seeds)
    ]


def frozen_cells(task: Task, methods: list[str], protocols: list[str], seeds: list[int]) -> list[Cell]:
    """What trains no network: probes, along the pre-training of GVSL too; ranks; labels by registration; features for
    the figure, of the first seed."""
    frozen = []
    if "probe" in protocols:
        which = product(methods, seeds, task.file.counts)
        frozen += [cells.probe(task, method, seed, labelled=labelled) for method, seed, labelled in which]
        if "gvsl" in methods and (pretraining := task.recipe.pretraining) is not None:
            iterations = pretraining["max_epochs"] * pretraining["iterations_per_epoch"]
            steps = range(0, iterations + 1, task.recipe.keep_every)
            frozen += [cells.probe(task, "gvsl", seed, step) for seed in seeds for step in steps]
    if "rank" in protocols:
        frozen += [cells.frozen(task, "rank", method, seed) for method in methods for seed in seeds]
    if "registered" in protocols:
        which = product(registering_methods(task, methods), seeds, task.file.counts)
        frozen += [cells.registered(task, method, seed, labelled) for method, seed, labelled in which]
    if "features" in protocols and task.file.bundle not in CLASSIFICATION:
        frozen += [cells.frozen(task, "features", method, seeds[0]) for method in methods if method in EMBEDDED]
    return frozen


def registering_methods(task: Task, methods: list[str]) -> list[str]:
    """The methods that register: GVSL, and shipped weights with their heads. None in classification."""
    if task.file.bundle in CLASSIFICATION:
        return []
    shipped = [name for name in methods if "weights" in task.file.methods.get(name, {})]
    with_heads = [name for name in shipped if task.weights(name, seed=0).with_name("heads.pt").is_file()]
    return [name for name in methods if name == "gvsl" or name in with_heads]


def trained_methods(task: Task, protocol: str, methods: list[str]) -> list[str]:
    """The methods that a protocol trains: none for probe, rank, features and registered.

    "encoder" leaves out random initialisation, which is the same as in "fine_tuned", and classification, which has no
    decoder that could be left random. "propagated" has GVSL alone: no other method registers.
    """
    if protocol == "propagated":
        return [] if task.file.bundle in CLASSIFICATION else [method for method in methods if method == "gvsl"]
    if protocol == "encoder":
        return [] if task.file.bundle in CLASSIFICATION else [method for method in methods if method != RANDOM]
    return methods if protocol in TRAININGS else []


def search_seeds(task: Task, seeds: list[int]) -> list[int]:
    """The seeds that choose the learning rate."""
    return seeds[: task.recipe.search_seeds]


def best_rates(task: Task, trained: list[tuple[str, str, int | None]], seeds: list[int]) -> list[float]:
    """The learning rate with the highest best validation score, mean of the search seeds.

    One for each (method, protocol, number of labelled volumes).
    """
    results = read_results(task.results)

    def score(method: str, protocol: str, labelled: int | None, rate: float) -> float:
        chosen = search_seeds(task, seeds)
        trainings = [cells.training(task, method, protocol, rate, seed, labelled) for seed in chosen]
        curves = [result_of(cell, results)["validation"] for cell in trainings]
        return float(np.mean([max(point["score"] for point in curve) for curve in curves]))

    return [max(task.recipe.rates(run[1]), key=lambda rate: score(*run, rate)) for run in trained]


def variant_cells(task: Task, names: list[str], seeds: list[int]) -> list[Cell]:
    """Pre-trainings by variants of the recipe; all variants if `names` is empty.

    Raises:
        ValueError: the task has no ablation, or a name is not known.
    """
    if task.recipe.ablation is None:
        raise ValueError(f'task {task.name} has no "ablation" in its recipe')
    variants = task.recipe.ablation["variants"]
    if unknown := [name for name in names if name not in variants]:
        raise ValueError(f"variants {unknown} are not known, expected some of {list(variants)}")
    return [cells.variant(task, name, seed) for name, seed in product(names or variants, seeds)]
