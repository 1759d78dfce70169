# SPDX-License-Identifier: Apache-2.0
"""The commands run, ablate, table, figures and fetch of the transfer benchmark. benchmarks/README.md explains them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.bundles import BENCHMARKS, ROOT
from custom.running import run_tool
from custom.running.arguments import listed

from .cluster import cluster_pool
from .figures import draw_figures
from .plan import PROTOCOLS, PoolMaker, run_tasks, run_variants
from .report import render, write_table
from .running import default_workers
from .task import chosen_methods, prepare_task
from .task_file import read_task_file
from .volumes import fetch_volumes

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
    cluster: str = "",
    job: dict[str, Any] | None = None,
    quick: bool = False,
) -> None:
    """Measures the cells that have no result yet.

    Args:
        tasks: names of files in benchmarks/tasks, or paths of such files; brain,hippocampus by default.
        methods: scratch (random initialisation), gvsl, others of the task file, names of pretext overlays; or all, that
            is, scratch, every overlay and gvsl. By default scratch and the methods of the task file.
        protocols: probe, linear, fine_tuned, encoder, rank (these five by default), features, propagated,
            registered.
        seeds: whole numbers; 0,1,2 by default.
        data: folder with the sources of the tasks.
        work: folder for copies, weights and logs.
        results: folder for the results.
        workers: number of cells measured side by side; by default one for each GPU, else for each core,
            and 16 jobs on a cluster.
        cluster: slurm measures each cell in a job of a Slurm cluster, with submitit; local in jobs of this machine.
        job: what a job asks for, in the names of submitit, for example
            "{'slurm_partition':'gpu','gpus_per_node':1,'cpus_per_task':8,'mem_gb':64,'timeout_min':240}".
        quick: measures the four phantom tasks at toy size: all methods, linear and fine_tuned, seed 0, few iterations.
            The numbers say nothing; they go to work/quick unless you name work and results.
    """
    if quick and WORK == work and RESULTS == results:
        work, results = str(Path(WORK) / "quick"), str(Path(WORK) / "quick" / "results")
    usual = (PHANTOMS, "all", "linear,fine_tuned", "0") if quick else ("brain,hippocampus", "", PROTOCOLS[:5], "0,1,2")
    tasks, methods, protocols, seeds = (
        listed(value) or listed(default)
        for value, default in zip((tasks, methods, protocols, seeds), usual, strict=True)
    )
    if unknown := [name for name in protocols if name not in PROTOCOLS]:
        raise ValueError(f"protocols {unknown} are not known, expected some of {list(PROTOCOLS)}")
    for name in tasks:
        chosen_methods(read_task_file(name), methods)  # before the volumes are prepared
    prepared = [prepare_task(name, Path(data), Path(work), Path(results), quick) for name in tasks]
    workers, make_pool = _pool(workers, cluster, job, Path(work))
    run_tasks(prepared, methods, protocols, [int(seed) for seed in seeds], workers, make_pool)


def ablate(
    tasks: str = "brain",
    variants: str = "",
    seeds: str = "0,1,2",
    data: str = DATA,
    work: str = WORK,
    results: str = RESULTS,
    workers: int = 0,
    cluster: str = "",
    job: dict[str, Any] | None = None,
) -> None:
    """Measures variants of a recipe that have no result yet, on the validation volumes alone.

    The other arguments are those of `run`.

    Args:
        tasks: names of files in benchmarks/tasks that have an "ablation", or paths of such files.
        variants: names; all by default.
    """
    workers, make_pool = _pool(workers, cluster, job, Path(work))
    for name in listed(tasks):
        task = prepare_task(name, Path(data), Path(work), Path(results))
        run_variants(task, listed(variants), [int(seed) for seed in listed(seeds)], workers, make_pool)


def fetch(tasks: str = "hippocampus", data: str = DATA) -> None:
    """Downloads public volumes to data/SOURCE; for volumes behind a registration it names the page."""
    for task in listed(tasks):
        print(fetch_volumes(read_task_file(task), Path(data)))


def table(results: str = RESULTS, seeds: str = "") -> None:
    """Writes RESULTS.md and RESULTS.csv beside the results and prints the table; with seeds it only prints."""
    chosen = [int(seed) for seed in listed(seeds)]
    print(render(Path(results), chosen)[0] if chosen else write_table(Path(results)))


def figures(results: str = RESULTS, work: str = WORK) -> None:
    """Draws the figures of each task beside the results; pictures of test volumes are taken from the work folder."""
    for path in draw_figures(Path(results), Path(work)):
        print(path)


def _pool(workers: int, cluster: str, job: dict[str, Any] | None, work: Path) -> tuple[int, PoolMaker | None]:
    """The number of cells measured side by side, and what makes their jobs, or None for processes of this machine."""
    if not cluster:
        if job:
            raise ValueError(f"job is {job}, but cluster is not set, expected cluster slurm or local")
        return workers or default_workers(), None
    return workers or 16, lambda count: cluster_pool(cluster, job or {}, count, work / "jobs")


COMMANDS = {"fetch": fetch, "ablate": ablate, "run": run, "table": table, "figures": figures}

if __name__ == "__main__":
    run_tool(COMMANDS)
