# SPDX-License-Identifier: Apache-2.0
"""Does pre-training pay, and which? Random initialisation, GVSL, its ablations and eight other methods, cell by cell.

python benchmarks/transfer.py run --quick
python benchmarks/transfer.py run --tasks heart_phantoms,coronary_phantoms,brain_phantoms,covid_phantoms --methods all
python benchmarks/transfer.py run --tasks brain,hippocampus
python benchmarks/transfer.py table
python benchmarks/transfer.py figures
python benchmarks/transfer.py ablate --tasks brain
python benchmarks/transfer.py fetch --tasks hippocampus --data DATA

Each cell (a pre-training, a probe, a training, a test) leaves one JSON in benchmarks/results/transfer/TASK and is never
measured twice; weights and logs lie in benchmarks/work, which git ignores. A killed run goes on where it was; weights
that a cell needs and that are gone, as in a new clone, are trained again, and the JSON that tells of them stays.
Labels, split and recipe of a task (overrides of the bundles' train.json) are in benchmarks/tasks/TASK.json. `ablate` is
how a recipe was chosen: short pre-trainings that differ from it in one thing, probed on the validation volumes. Tasks
named phantoms are the bundles' own synthetic data, pre-trained once for all four (tasks/phantoms.json); they say
nothing of patients.

Methods: scratch (random initialisation), gvsl (pre-trained on the task's unlabelled volumes), those that a task names
(shipped weights, or a pre-training on other volumes), and every overlay of gvsl_pretrain's configs/pretext (simclr,
rotation, without_affine, ...): the same data, iterations and network. `--methods all`: the paper's table.
Protocols: probe (converged logistic regression on local features, on volumes as they are and randomly moved), linear
(backbone frozen, one convolution), fine_tuned (everything trained), encoder (the same, from the encoder's weights and
a random decoder), rank (how many directions features span: have they collapsed?), features (local features of a volume
in two dimensions, by structure).
Learning rates are searched on the validation volumes with the first seeds ("search_seeds" of a
recipe, one by default), the same list for every method. Each seed has its own initial weights, pre-training and
labelled volumes. The test volumes are read once a seed, with the learning rate that won.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import fire

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from transfer_learning.figures import draw_figures  # noqa: E402
from transfer_learning.plan import PROTOCOLS, Task, run_tasks, run_variants  # noqa: E402
from transfer_learning.report import render, write_table  # noqa: E402
from transfer_learning.running import default_workers  # noqa: E402
from transfer_learning.tasks import BENCHMARKS, ROOT, fetch_task, read_task  # noqa: E402

RESULTS = str(BENCHMARKS / "results" / "transfer")
WORK = str(BENCHMARKS / "work")
DATA = str(ROOT.parent / "shared" / "data")
PHANTOMS = "heart_phantoms,coronary_phantoms,brain_phantoms,covid_phantoms"


def run(
    tasks: str = "",
    methods: str = "",
    protocols: str = "",
    seeds: str = "",
    data: str = DATA,
    work: str = WORK,
    results: str = RESULTS,
    workers: int = 0,
    quick: bool = False,
) -> None:
    """Measures the cells that have no file yet.

    Args:
        tasks: names of benchmarks/tasks, or files like those; brain,hippocampus by default.
        methods: scratch, gvsl and those of the task file (all of these by default), names of overlays, or all: random
            initialisation, every overlay and GVSL.
        protocols: probe, linear, fine_tuned, encoder, rank (all five by default), features.
        seeds: whole numbers; 0,1,2 by default.
        data: folder with the tasks' sources. work: for copies and weights. results: for the JSON files.
        workers: cells measured side by side; by default one for each GPU, else for each core.
        quick: tries the whole table: the four phantom tasks, all methods, linear and fine_tuned, seed 0, a few tiny
            iterations each. Its numbers say nothing and lie in work/quick unless you give work and results.
    """
    if quick and WORK == work and RESULTS == results:
        work, results = str(Path(WORK) / "quick"), str(Path(WORK) / "quick" / "results")
    usual = (PHANTOMS, "all", "linear,fine_tuned", "0") if quick else ("brain,hippocampus", "", PROTOCOLS[:5], "0,1,2")
    tasks, methods, protocols, seeds = (
        _listed(default if given == "" else given)
        for given, default in zip((tasks, methods, protocols, seeds), usual, strict=True)
    )
    if unknown := [name for name in protocols if name not in PROTOCOLS]:
        raise ValueError(f"protocols {unknown} are not known, expected some of {list(PROTOCOLS)}")
    chosen = [Task(name, Path(data), Path(work), Path(results), quick) for name in tasks]
    run_tasks(chosen, methods, protocols, [int(seed) for seed in seeds], workers or default_workers())


def ablate(
    tasks: str = "brain",
    variants: str = "",
    seeds: str = "0,1,2",
    data: str = DATA,
    work: str = WORK,
    results: str = RESULTS,
    workers: int = 0,
) -> None:
    """Measures variants of a recipe that have no file yet, on the validation volumes alone.

    Args:
        tasks: names of benchmarks/tasks with an "ablation", or files like those. variants: names; all by default.
        seeds: whole numbers.
        data: folder with the tasks' sources. work: for copies and weights. results: for the JSON files.
        workers: variants measured side by side; by default one for each GPU, else for each core.
    """
    for name in _listed(tasks):
        task = Task(name, Path(data), Path(work), Path(results))
        run_variants(task, _listed(variants), [int(seed) for seed in _listed(seeds)], workers or default_workers())


def fetch(tasks: str = "hippocampus", data: str = DATA) -> None:
    """Downloads public volumes to data/SOURCE/{images,labels}; for those behind a registration it names the page."""
    for task in _listed(tasks):
        print(fetch_task(read_task(task), Path(data)))


def table(results: str = RESULTS, seeds: str = "") -> None:
    """Writes RESULTS.md and RESULTS.csv beside the cells and prints the table; with seeds only prints that of these."""
    chosen = [int(seed) for seed in _listed(seeds)]
    print(render(Path(results), chosen)[0] if chosen else write_table(Path(results)))


def figures(results: str = RESULTS, work: str = WORK) -> None:
    """Draws TASK.png beside the cells: Dice against training steps, the probe against pre-training steps. Where
    there are cells for it also TASK_methods.png (rows of the paper's table), TASK_features.png, TASK_restoration.png
    (registration loss with and without restoration) and TASK_examples.png (test volumes, as far as work holds their
    pictures)."""
    for path in draw_figures(Path(results), Path(work)):
        print(path)


def _listed(names: Any) -> list[str]:
    """Of "a,b", which fire may have made a tuple of; nothing of ""."""
    return (
        [str(name) for name in names] if isinstance(names, (list, tuple)) else [n for n in str(names).split(",") if n]
    )


COMMANDS = {"fetch": fetch, "ablate": ablate, "run": run, "table": table, "figures": figures}

if __name__ == "__main__":
    fire.Fire(COMMANDS)
