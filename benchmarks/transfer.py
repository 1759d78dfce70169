# SPDX-License-Identifier: Apache-2.0
"""Does pre-training pay? Random initialisation against GVSL on real volumes, cell by cell.

python benchmarks/transfer.py fetch --tasks hippocampus --data DATA
python benchmarks/transfer.py ablate --tasks brain
python benchmarks/transfer.py run --tasks brain
python benchmarks/transfer.py table
python benchmarks/transfer.py figures

Each cell (a pre-training, a probe, a training, a test) leaves one JSON in benchmarks/results/transfer/TASK and is never
measured twice; weights lie in benchmarks/work, which git ignores. A killed run goes on where it was. Labels, split and
recipe of a task (overrides of the bundles' train.json) are in benchmarks/tasks/TASK.json. `ablate` is how a recipe was
chosen: short pre-trainings that differ from it in one thing, probed on the validation volumes. Tasks named phantoms are
the bundles' own synthetic data and start from the shipped weights; they say nothing of patients.

Methods: scratch (random initialisation), gvsl (pre-trained on the task's own unlabelled volumes or, for phantoms, the
shipped weights), those that a task names (shipped weights, or a pre-training on other volumes), and, where a task has a
recipe of pre-training, every overlay of gvsl_pretrain's configs/pretext (simclr, rotation, without_affine, ...): the
same data, iterations and network. The last are measured when `--methods` names them.
Protocols: probe (converged logistic regression on local features, on volumes as they are and randomly moved), linear
(backbone frozen, one convolution), fine_tuned (everything trained).
Learning rates of linear and fine_tuned are searched on the validation volumes with the first seed, the same list for
every method. Each seed redraws the labelled training volumes and the initial weights; pre-training runs once. The test
volumes are read once a seed, with the learning rate that won.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import fire

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from transfer_learning import cells, report  # noqa: E402
from transfer_learning.tasks import BENCHMARKS, ROOT, fetch_task, prepare_task, pretext_overlays, read_task  # noqa: E402

OVERLAYS = {"linear": "linear.json", "fine_tuned": None}
PROTOCOLS = ("probe", "linear", "fine_tuned")
RESULTS = str(BENCHMARKS / "results" / "transfer")
WORK = str(BENCHMARKS / "work")


def run(
    tasks: str = "brain,hippocampus",
    methods: str = "",
    protocols: str = "probe,linear,fine_tuned",
    seeds: str = "0,1,2",
    data: str = str(ROOT.parent / "shared" / "data"),
    work: str = WORK,
    results: str = RESULTS,
) -> None:
    """Measures the cells that have no file yet.

    Args:
        tasks: names of benchmarks/tasks, or files like those.
        methods: scratch, gvsl and those of the task file (all by default), or names of overlays.
        protocols: probe, linear, fine_tuned.
        seeds: whole numbers.
        data: folder with the tasks' sources. work: for copies and weights. results: for the JSON files.
    """
    for name in _listed(tasks):
        task = Task(name, Path(data), Path(work), Path(results))
        chosen = _listed(methods, (*task.methods, *task.overlays)) if methods else list(task.methods)
        task.run(chosen, _listed(protocols, PROTOCOLS), [int(seed) for seed in _listed(seeds)])


class Task:
    """The cells of one task."""

    def __init__(self, name: str, data: Path, work: Path, results: Path) -> None:
        self.task = read_task(name)
        self.recipe = self.task["recipe"]
        self.others = self.task.get("methods", {"gvsl": {}})
        self.methods = ("scratch", *self.others)
        self.overlays = pretext_overlays() if "pretraining" in self.recipe else {}
        self.data, self.all_work = data, work
        self.work, self.results = work / self.task["name"], results / self.task["name"]
        self.parts = prepare_task(self.task, data, work)

    def run(self, methods: list[str], protocols: list[str], seeds: list[int]) -> None:
        for method in methods:
            if self.pretrains(method):
                self.pretrain(method)
        for protocol in protocols:
            for method in methods:
                if protocol == "probe":
                    self.probes(method, seeds)
                    continue
                rate = self.search(method, protocol, seeds[0])
                for seed in seeds:
                    self.train(method, protocol, rate, seed)
                    self.test(method, protocol, rate, seed)

    def pretrains(self, method: str) -> bool:
        """Whether a method's weights are trained for this task, rather than random, shipped or another task's."""
        if method in self.overlays:
            return True
        return "pretraining" in (self.recipe if method == "gvsl" else self.others.get(method, {}))

    def pretraining(self, overlay: str | None = None) -> dict[str, Any]:
        """Overrides of gvsl_pretrain's train.json, with the recipe's "gvsl" where the loss is that of GVSL."""
        own = self.recipe.get("gvsl", {}) if overlay is None or "loss" not in self.overlays[overlay] else {}
        return {**self.recipe["pretraining"], **own}

    def pretrain(self, method: str) -> None:
        """Pre-trains once, keeping weights on the way."""
        other = self.others.get(method, {})
        overlay, source = method if method in self.overlays else None, other.get("source")
        overrides = other.get("pretraining") or self.pretraining(overlay)
        given = {"source": source} if source else {"split": self.task["split"]}
        given |= {"overlay": self.overlays[overlay]} if overlay else {}
        folder = self.data / source if source else None
        every = self.recipe["keep_every"]
        cells.run_cell(
            self.results / f"pretraining_{method}.json",
            {"method": method, "overrides": overrides, **given},
            lambda: cells.pretrain(self.task, self.parts, overrides, self.work / method, every, folder, overlay),
        )

    def ablate(self, variants: list[str]) -> None:
        """Pre-trains variants of the recipe for a while and probes each on the validation part on the way."""
        ablation, seed = self.recipe["ablation"], 0
        for name in variants:
            overrides = {**self.pretraining(), **ablation["shared"], **ablation["variants"][name]}
            output = self.work / "ablation" / name

            def measure(overrides=overrides, output=output) -> dict[str, Any]:
                pairs = cells.pretrain(self.task, self.parts, overrides, output, ablation["keep_every"])["validation"]
                probes = {
                    step: cells.probe(
                        self.task, self.parts, self.downstream(pretraining=overrides), folder, seed, "validation"
                    )
                    for step, folder in kept_steps(output)
                }
                return {"pairs": pairs, "probes": probes}

            cells.run_cell(
                self.results / f"ablation_{name}.json",
                {"variant": name, "overrides": overrides, "split": self.task["split"]},
                measure,
            )

    def weights(self, method: str) -> Path | None:
        """Those that a method pre-trained here, another task's, or shipped ones: by default the bundle's."""
        if method == "scratch":
            return None
        if self.pretrains(method):
            return self.work / method
        other = self.others.get(method, {})
        if "task" in other:
            return self.all_work / other["task"] / other["method"]
        return ROOT / other.get("weights", f"bundles/{self.task['bundle']}/models/backbone.pt")

    def probes(self, method: str, seeds: list[int]) -> None:
        """On the test part with the final weights, and on the validation part along pre-training."""
        overrides = self.downstream()
        for seed in seeds:
            cells.run_cell(
                self.results / f"probe_{method}_seed{seed}.json",
                {"method": method, "protocol": "probe", "seed": seed, "part": "test"},
                lambda seed=seed: cells.probe(self.task, self.parts, overrides, self.weights(method), seed, "test"),
            )
        if method != "gvsl" or not self.pretrains(method):
            return
        for step, folder in kept_steps(self.work / method):
            cells.run_cell(
                self.results / f"probe_{method}_step{step}.json",
                {"method": method, "protocol": "probe", "seed": seeds[0], "part": "validation", "step": step},
                lambda folder=folder: cells.probe(self.task, self.parts, overrides, folder, seeds[0], "validation"),
            )

    def downstream(self, pretraining: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """Overrides of the downstream bundle's train.json."""
        pretraining = pretraining or self.recipe.get("pretraining", {})
        shared = {name: pretraining[name] for name in self.recipe.get("shared", ())}
        return {**shared, **self.recipe["downstream"], **more}

    def train(self, method: str, protocol: str, rate: float, seed: int) -> dict[str, Any]:
        foreign = {"accept_mismatch": ["spacing", "intensity"]} if self.others.get(method) else {}
        overrides, output = self.downstream(learning_rate=rate, **foreign), self._output(method, protocol, rate, seed)
        return cells.run_cell(
            self.results / f"{output.name}.json",
            {"method": method, "protocol": protocol, "seed": seed, "learning_rate": rate, "overrides": overrides},
            lambda: cells.train(
                self.task, self.parts, overrides, OVERLAYS[protocol], self.weights(method), seed, output
            ),
        )

    def search(self, method: str, protocol: str, seed: int) -> float:
        """The learning rate whose best validation score is highest."""
        best = {
            rate: max(point["score"] for point in self.train(method, protocol, rate, seed)["validation"])
            for rate in self.recipe["learning_rates"][protocol]
        }
        return max(best, key=best.get)

    def test(self, method: str, protocol: str, rate: float, seed: int) -> None:
        model = self._output(method, protocol, rate, seed)
        overrides = self.downstream(learning_rate=rate)
        cells.run_cell(
            self.results / f"test_{protocol}_{method}_seed{seed}.json",
            {"method": method, "protocol": protocol, "seed": seed, "learning_rate": rate},
            lambda: cells.test(self.task, self.parts, overrides, OVERLAYS[protocol], model, model / "evaluation"),
        )

    def _output(self, method: str, protocol: str, rate: float, seed: int) -> Path:
        return self.work / f"{protocol}_{method}_rate{rate:g}_seed{seed}"


def kept_steps(output: Path) -> list[tuple[int, Path]]:
    """(iteration, folder) of the weights that a pre-training kept on the way."""
    return sorted((int(folder.name), folder) for folder in (output / "steps").iterdir())


def ablate(
    tasks: str = "brain",
    variants: str = "",
    data: str = str(ROOT.parent / "shared" / "data"),
    work: str = WORK,
    results: str = RESULTS,
) -> None:
    """Measures variants of a recipe that have no file yet, on the validation volumes alone.

    Args:
        tasks: names of benchmarks/tasks with an "ablation", or files like those. variants: names; all by default.
        data: folder with the tasks' sources. work: for copies and weights. results: for the JSON files.
    """
    for name in _listed(tasks):
        task = Task(name, Path(data), Path(work), Path(results))
        known = tuple(task.recipe["ablation"]["variants"])
        task.ablate(_listed(variants, known) if variants else list(known))


def fetch(tasks: str = "hippocampus", data: str = str(ROOT.parent / "shared" / "data")) -> None:
    """Downloads public volumes to data/SOURCE/{images,labels}; for those behind a registration it names the page."""
    for task in _listed(tasks):
        print(fetch_task(read_task(task), Path(data)))


def table(results: str = RESULTS) -> None:
    """Writes RESULTS.md and RESULTS.csv beside the cells and prints the table."""
    print(report.write_table(Path(results)))


def figures(results: str = RESULTS) -> None:
    """Draws TASK.png beside the cells: Dice against fine-tuning steps, and the probe against pre-training steps."""
    for path in report.draw_figures(Path(results)):
        print(path)


def _listed(names: Any, known: tuple[str, ...] = ()) -> list[str]:
    listed = [str(name) for name in names] if isinstance(names, (list, tuple)) else str(names).split(",")
    unknown = [name for name in listed if known and name not in known]
    if unknown:
        raise ValueError(f"{unknown} are not known, expected some of {list(known)}")
    return listed


if __name__ == "__main__":
    fire.Fire({"fetch": fetch, "ablate": ablate, "run": run, "table": table, "figures": figures})
