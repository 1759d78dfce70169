# SPDX-License-Identifier: Apache-2.0
"""The transfer benchmark on a task of nine tiny volumes: every kind of cell, resuming, table, figures."""

from __future__ import annotations

import concurrent.futures
import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, product
from pathlib import Path

import fire
import nibabel
import numpy as np
import pytest
import torch
from matplotlib.image import imread
from monai.apps import DecathlonDataset

from benchmarks.bundles import workflow
from benchmarks.transfer import cells, measure, plan
from benchmarks.transfer import task as task_module
from benchmarks.transfer.__main__ import COMMANDS
from benchmarks.transfer.cells import Cell
from benchmarks.transfer.figures import curves_figure, features_figure, labels_figure, methods_figure
from benchmarks.transfer.plan import planned, stages, trained_methods
from benchmarks.transfer.probe import probe_auc, probe_dice, rank_share
from benchmarks.transfer.report import by_labels, read_tasks, render, write_table
from benchmarks.transfer.report import test_scores as scores_of
from benchmarks.transfer.results import append_result, read_results
from benchmarks.transfer.running import Progress, locked_log, measure_cell, result_of, run_cells, worker_pool
from benchmarks.transfer.task import Task, prepare_task
from benchmarks.transfer.task_file import Recipe, TaskFile, read_task_file
from benchmarks.transfer.volumes import Cohort, coarse_affine, fetch_volumes, merged, reduced

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "benchmarks" / "results" / "transfer"
SUBJECTS = [f"s{number}" for number in range(9)]


@pytest.fixture
def tiny_task(tmp_path: Path) -> Path:
    """A task file; balls of value 1 in noise."""
    generator = np.random.default_rng(0)
    for number, subject in enumerate(SUBJECTS):
        label = sum((axis - 8) ** 2 for axis in np.indices((18, 16, 20))) < 25 + number
        image = 400 * (generator.random(label.shape) + 2 * label) - 600  # HU
        for folder, array in (("images", image.astype(np.float32)), ("labels", label.astype(np.int16))):
            (tmp_path / "data" / "tiny" / folder).mkdir(parents=True, exist_ok=True)
            file = tmp_path / "data" / "tiny" / folder / f"{subject}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), file)
    shapes = {"spacing": [1.0] * 3, "patch_size": [16] * 3, "channels": [8, 16], "num_workers": 0}
    length = {"max_epochs": 2, "iterations_per_epoch": 2, "val_interval": 1, "warmup_iterations": 1}
    task = {
        "name": "tiny",
        "bundle": "gvsl_seg_heart",
        "source": "tiny",
        "page": "https://example.org",
        "reduce": 1,
        "labels": {"ball": 1},
        "labelled": 2,
        "split": {"pretraining": SUBJECTS[:4], "validation": SUBJECTS[4:6], "test": SUBJECTS[6:]},
        "recipe": {
            "pretraining": shapes | length,
            "keep_every": 2,
            "shared": list(shapes),
            "downstream": length | {"background_values": []},
            "learning_rates": {"linear": [0.01], "fine_tuned": [0.01, 0.001]},
        },
    }
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(task))
    return path


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """Two workers for all tests: each takes seconds to import everything."""
    with worker_pool(2) as workers:
        yield workers


@pytest.fixture
def transfer(pool: ProcessPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Function that runs a command of benchmarks.transfer with these workers and gives what it prints."""
    monkeypatch.setattr(plan, "worker_pool", lambda workers: contextlib.nullcontext(pool))

    def run(command: str, task: Path, *more: str, protocols: str = "probe,fine_tuned") -> str:
        folder = task.parent
        arguments = [f"--results={folder / 'results'}", *more]
        if command == "run":
            arguments += [f"--tasks={task}", f"--data={folder / 'data'}", f"--work={folder / 'work'}"]
            arguments += ["--seeds=0", f"--protocols={protocols}"]
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            fire.Fire(COMMANDS, [command, *arguments])
        return printed.getvalue()

    return run


@pytest.fixture
def no_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks make no phantoms, where only their plan counts."""
    monkeypatch.setattr(task_module, "read_cohort", lambda *_: Cohort())


def opened(folder: Path, name: str | Path, quick: bool = False) -> Task:
    """A task whose data, work and results lie in a folder."""
    return prepare_task(str(name), folder / "data", folder / "work", folder / "results", quick)


def stored(results: Path, task: str, name: str, **result) -> None:
    """Stores a cell as a run would."""
    append_result(results / f"{task}.jsonl", name, result)


def test_every_cell_once(tiny_task: Path, transfer: Callable[..., str]) -> None:
    assert "12 of 12: test_fine_tuned_" in transfer("run", tiny_task)
    results = tiny_task.parent / "results" / "tiny.jsonl"
    content, cells = results.read_bytes(), read_results(results)
    expected = {f"{kind}_{method}_seed0" for kind in ("test_fine_tuned", "probe") for method in ("scratch", "gvsl")}
    expected |= {f"probe_gvsl_seed0_step{step}" for step in (0, 2, 4)} | {"pretraining_gvsl_seed0"}
    assert expected <= set(cells)
    searched = {name for name in cells if name.startswith("fine_tuned_gvsl") and name.endswith("seed0")}
    assert searched == {"fine_tuned_gvsl_rate0.01_seed0", "fine_tuned_gvsl_rate0.001_seed0"}
    assert transfer("run", tiny_task) == ""
    assert results.read_bytes() == content
    pictures = {path.parent.name for path in (tiny_task.parent / "work").rglob("*.png")}
    assert pictures == {"evaluation"}  # for tiny_examples.png

    table = transfer("table", tiny_task)
    dice = cells["probe_gvsl_seed0"]["score"]
    assert f"{100 * dice:.1f}" in table and "| random initialisation | " in table
    drawn = transfer("figures", tiny_task, f"--work={tiny_task.parent / 'work'}").split()
    assert [Path(path).name for path in drawn] == ["tiny.png", "tiny_examples.png"]
    assert all(imread(path)[40:, :, :3].std() > 0.05 for path in drawn)  # below the title they are not blank


def test_label_efficiency_with_absent_structures(tiny_task: Path, transfer: Callable[..., str]) -> None:
    """Cells, table and figure for several numbers of labelled volumes; one labelled structure is absent in some."""
    content = json.loads(tiny_task.read_text())
    content |= {"labelled": [1, 2], "labels": {"ball": 1, "cube": 2}, "absent": {"cube": SUBJECTS[1:]}}
    content["recipe"]["learning_rates"]["fine_tuned"] = [0.01]
    content["recipe"]["downstream"] |= {
        "loss": {
            "_target_": "custom.losses.MarginalLoss",
            "loss": {"_target_": "DiceCELoss", "to_onehot_y": True, "softmax": True},
        },
        **{name: value for name, value in read_task_file("head_neck").recipe.downstream.items() if "train#" in name},
    }
    tiny_task.write_text(json.dumps(content))
    transfer("run", tiny_task, "--methods=scratch")
    results = read_results(tiny_task.parent / "results" / "tiny.jsonl")
    assert list(results) == sorted(
        f"{kind}_scratch_labelled{n}{rate}_seed0"
        for kind, rate in (("probe", ""), ("fine_tuned", "_rate0.01"), ("test_fine_tuned", ""))
        for n in (1, 2)
    )
    assert results["probe_scratch_labelled2_seed0"]["settings"]["labelled"] == 2
    for kind, rate in (("probe", ""), ("fine_tuned", "_rate0.01")):
        drawn = [results[f"{kind}_scratch_labelled{n}{rate}_seed0"]["labelled_subjects"] for n in (1, 2)]
        assert drawn[0] == SUBJECTS[:1] and len(drawn[1]) == 2 and SUBJECTS[0] in drawn[1]
    lines = (tiny_task.parent / "results" / "tiny.jsonl").read_text().splitlines()
    assert sum('"shared"' in line for line in lines) == 3  # the number is a cell's own setting
    table = transfer("table", tiny_task)
    assert "## tiny, labelled volumes: 1\n" in table and "## tiny, labelled volumes: 2\n" in table
    drawn = transfer("figures", tiny_task, f"--work={tiny_task.parent / 'work'}").split()
    assert [Path(path).name for path in drawn] == ["tiny.png", "tiny_labels.png", "tiny_examples.png"]
    figure = labels_figure(by_labels(read_tasks(tiny_task.parent / "results")["tiny"]))
    scores = [100 * results[f"test_fine_tuned_scratch_labelled{n}_seed0"]["score"] for n in (1, 2)]
    line = figure.axes[2].lines[0]
    assert list(line.get_xdata()) == [1, 2] and np.allclose(line.get_ydata(), scores)


def test_a_number_without_trainings_has_no_plot_of_its_own(tmp_path: Path) -> None:
    """Three numbers are probed, one is trained with: its point and its curve are drawn, and no empty plot."""
    for number in (1, 2, 4):
        settings = {"method": "scratch", "protocol": "probe", "part": "test", "seed": 0, "labelled": number}
        stored(tmp_path, "tiny", f"probe{number}", settings=settings, score=0.1 * number)
    settings = {"method": "scratch", "protocol": "fine_tuned", "seed": 0, "learning_rate": 0.1, "labelled": 1}
    stored(tmp_path, "tiny", "trained", settings=settings, validation=[{"iteration": 1, "score": 0.5}])
    stored(tmp_path, "tiny", "tested", settings=settings, test={}, score=0.6)
    plots = labels_figure(by_labels(read_tasks(tmp_path)["tiny"])).axes
    assert [bool(plot.lines) for plot in plots] == [plot.axison for plot in plots] == [True, True, False, True]
    assert plots[1].lines[0].get_marker() == "o" and list(plots[1].lines[0].get_ydata()) == [60]


def test_labels_are_propagated_to_the_unlabelled_volumes(tiny_task: Path, transfer: Callable[..., str]) -> None:
    """GVSL alone; the other volumes for pre-training are trained on with the label maps that registration made."""
    content = json.loads(tiny_task.read_text())
    content["recipe"]["learning_rates"]["fine_tuned"] = [0.01]
    tiny_task.write_text(json.dumps(content))
    transfer("run", tiny_task, protocols="propagated")
    results = read_results(tiny_task.parent / "results" / "tiny.jsonl")
    assert set(results) == {"pretraining_gvsl_seed0", "propagated_gvsl_rate0.01_seed0", "test_propagated_gvsl_seed0"}
    assert results["propagated_gvsl_rate0.01_seed0"]["settings"]["refine"] == 20
    folder = tiny_task.parent / "work" / "tiny" / "propagated_gvsl_rate0.01_seed0"
    labels = sorted((folder / "propagated").glob("*_label.nii.gz"))
    assert len(labels) == 2  # of four volumes two are labelled
    labelled = results["propagated_gvsl_rate0.01_seed0"]["labelled_subjects"]
    assert {*labelled, *(path.name.partition("_")[0] for path in labels)} == {*SUBJECTS[:4]}
    for path in labels:
        subject = path.name.partition("_")[0]
        own, truth = (
            np.asarray(nibabel.load(file).dataobj) == 1
            for file in (path, tiny_task.parent / "data" / "tiny" / "labels" / f"{subject}.nii.gz")
        )
        assert 2 * (own & truth).sum() / (own.sum() + truth.sum()) > 0.7
    trained = json.loads((folder / "model.json").read_text())["data"]
    assert trained["volumes"] == 4


def test_labels_by_registration_are_tested_without_training(tiny_task: Path, transfer: Callable[..., str]) -> None:
    """The score is the Dice of the written label maps; random initialisation does not register."""
    transfer("run", tiny_task, protocols="registered")
    results = read_results(tiny_task.parent / "results" / "tiny.jsonl")
    assert set(results) == {"pretraining_gvsl_seed0", "registered_gvsl_seed0"}
    measured = results["registered_gvsl_seed0"]
    assert len(measured["labelled_subjects"]) == 2 and {*measured["labelled_subjects"]} < {*SUBJECTS[:4]}
    folder = tiny_task.parent / "work" / "tiny"
    dice = []
    for subject in SUBJECTS[6:]:
        files = (
            folder / "registered_gvsl_seed0" / f"{subject}_label.nii.gz",
            folder / "volumes/labels" / f"{subject}.nii.gz",
        )
        own, truth = (np.asarray(nibabel.load(file).dataobj) == 1 for file in files)
        dice.append(2 * (own & truth).sum() / (own.sum() + truth.sum()))
    assert measured["score"] == pytest.approx(np.mean(dice), abs=1e-4) and min(dice) > 0.7
    assert measured["test"]["dice"]["ball"]["mean"] == measured["score"] and measured["settings"]["refine"] == 20
    assert "labels by registration, no training" in transfer("table", tiny_task)


def test_an_overlay_is_a_method(tiny_task: Path, transfer: Callable[..., str]) -> None:
    recipe = json.loads(tiny_task.read_text())
    recipe["recipe"]["gvsl"] = "transfer.json"  # none of denoising's business
    tiny_task.write_text(json.dumps(recipe))
    transfer("run", tiny_task, "--methods=denoising,without_affine", protocols="probe")
    results = read_results(tiny_task.parent / "results" / "tiny.jsonl")
    denoising, ablation = (results[f"pretraining_{name}_seed0"] for name in ("denoising", "without_affine"))
    assert list(denoising["settings"]["overlays"]) == ["pretext/denoising.json"]
    assert list(ablation["settings"]["overlays"]) == ["transfer.json", "pretext/without_affine.json"]
    config = json.loads((tiny_task.parent / "work" / "tiny" / "without_affine_seed0" / "model.json").read_text())[
        "config"
    ]
    assert config["loss"]["smoothness_weight"] == 30.0 and config["matching_head"]["affine_head"] is None
    weights = json.loads((tiny_task.parent / "work" / "tiny" / "denoising_seed0" / "model.json").read_text())
    assert weights["pretext_task"] == "denoising" and weights["iterations"] == 4
    assert 0 <= results["probe_denoising_seed0"]["score"] <= 1


def test_the_recipe_for_transfer_is_the_variant_that_won() -> None:
    overlay = json.loads((ROOT / "benchmarks" / "tasks" / "overlays" / "transfer.json").read_text())
    recipe = json.loads((ROOT / "benchmarks" / "tasks" / "brain.json").read_text())["recipe"]
    ablation = recipe["ablation"]
    variant = ablation["overrides"] | ablation["variants"]["paper_affine_head_small_transforms"]
    assert recipe["gvsl"] == "transfer.json"
    assert variant == overlay | {"max_epochs": recipe["pretraining"]["max_epochs"], "amp": False}


def test_a_workflow_leaves_its_overrides_as_they_are() -> None:
    overrides = {"loss": {"_target_": "DiceLoss", "weight": "$[0.0] * @network_def#classes"}, "network_def#classes": 3}
    before = json.dumps(overrides)
    workflow("gvsl_seg_heart", ["train.json"], overrides)
    assert json.dumps(overrides) == before  # they are a cell's settings


def test_fine_tuning_may_start_from_the_encoder_alone(tmp_path: Path, no_volumes: None) -> None:
    content = json.loads((ROOT / "benchmarks" / "tasks" / "hippocampus.json").read_text())
    file = tmp_path / "task.json"
    file.write_text(json.dumps(content | {"split": {part: [] for part in content["split"]}}))
    needed, searched, *_ = list(stages(opened(tmp_path, file), ["scratch", "gvsl"], ["encoder"], [0], searched=False))
    assert [cell.name for cell in needed] == ["pretraining_gvsl_seed0"]  # a random encoder is fine_tuned's
    assert [cell.name for cell in searched] == ["encoder_gvsl_rate0.003_seed0", "encoder_gvsl_rate0.001_seed0"]
    assert searched[0].settings["overrides"]["pretrained_parts"] == ["encoder"]
    covid = opened(tmp_path, "covid_phantoms", quick=True)
    assert trained_methods(covid, "encoder", ["gvsl"]) == []  # it has no decoder


def test_the_untuned_recipe_is_a_method_of_its_own(tmp_path: Path) -> None:
    content = json.loads((ROOT / "benchmarks" / "tasks" / "brain.json").read_text())
    file = tmp_path / "task.json"
    file.write_text(json.dumps(content | {"split": {part: [] for part in content["split"]}}))
    task = opened(tmp_path, file)
    (tuned, untuned), *_ = stages(task, ["gvsl", "gvsl_default"], ["probe"], [0], searched=False)
    assert list(tuned.settings["overlays"]) == ["transfer.json"] and "overlays" not in untuned.settings
    assert untuned.settings["overrides"] == tuned.settings["overrides"]


def test_the_encoder_alone_is_compared_with_random_initialisation(tmp_path: Path) -> None:
    for protocol, method, score in (("fine_tuned", "scratch", 0.5), ("encoder", "gvsl", 0.75)):
        settings = {"method": method, "protocol": protocol, "seed": 0, "learning_rate": 0.1}
        stored(tmp_path, "tiny", protocol, settings=settings, test={}, score=score, device="a GPU")
    lines = write_table(tmp_path).splitlines()
    assert lines[-4:] == [
        "| method | fine-tuned | fine-tuned from the encoder alone |",
        "|---|---|---|",
        "| random initialisation | 50.0 |  |",
        "| GVSL |  | 75.0 (+25.0) |",
    ]


@pytest.mark.parametrize(("variant", "shown"), [("base", "| GVSL † | 75.0"), ("byol/default", "| GVSL | **75.0**")])
def test_a_recipe_that_was_searched_is_never_the_best(tmp_path: Path, variant: str, shown: str) -> None:
    for method, score in (("scratch", 0.5), ("gvsl", 0.75)):
        settings = {"method": method, "protocol": "linear", "seed": 0, "learning_rate": 0.1}
        stored(tmp_path, "tiny", method, settings=settings, test={}, score=score, device="a GPU")
    probes = {"8": {"score": 0.3, "score_moved": 0.2}}
    stored(tmp_path, "tiny", "v", settings={"variant": variant, "seed": 0}, probes=probes, device="a GPU")
    assert shown in write_table(tmp_path)


def test_features_and_restoration_are_drawn(tiny_task: Path, transfer: Callable[..., str]) -> None:
    transfer("run", tiny_task, "--methods=scratch,without_restoration,gvsl", protocols="features,rank")
    results = read_results(tiny_task.parent / "results" / "tiny.jsonl")
    points = results["features_gvsl_seed0"]["points"]
    assert list(points) == ["ball"] and np.shape(points["ball"])[1:] == (2,) and 40 < len(points["ball"]) <= 2000
    figure = features_figure(list(results.values()))
    titles = ["random initialisation", "GVSL without restoration", "GVSL"]
    assert [plot.get_title() for plot in figure.axes] == titles
    assert figure.get_suptitle().startswith(f"t-SNE of local features, {len(points['ball'])} voxels")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ball"]
    training = results["pretraining_gvsl_seed0"]["training"]
    assert [row["iteration"] for row in training] == [2, 4] and all(row["registration"] > 0 for row in training)
    drawn = [Path(path).name for path in transfer("figures", tiny_task).split()]
    assert drawn == ["tiny_features.png", "tiny_restoration.png"]
    ranks = results["rank_gvsl_seed0"]["rank"]
    line = f"| GVSL | 1 | {ranks['local']:.0f} | {ranks['bottleneck']:.0f} |"
    assert line in transfer("table", tiny_task).splitlines() and 12.5 <= ranks["local"] <= 100


@pytest.mark.parametrize(
    ("left", "right", "legend"),
    [
        ("left_atrium", "right_atrium", ["left atrium", "right atrium"]),  # two colors
        ("left_caudate", "right_caudate", ["caudate", "left", "right"]),  # one
    ],
)
def test_the_legend_of_the_features_names_every_color(left: str, right: str, legend: list[str]) -> None:
    points = {left: [[0.0, 1.0]], right: [[1.0, 0.0]]}
    figure = features_figure([{"settings": {"method": "gvsl"}, "points": points}])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == legend


def test_rows_of_the_table_have_a_figure_of_their_own(tmp_path: Path) -> None:
    """Of the methods that are drawn, of those in the paper's table, and of what both hold; a band over the seeds."""
    for seed, method in product((0, 1), ("scratch", "simclr", "byol", "chest")):
        settings = {"method": method, "protocol": "linear", "seed": seed, "learning_rate": 0.1}
        best = 0.4 if method == "byol" else 0.2
        points = [{"iteration": 1, "score": 0.1}, {"iteration": 2, "score": best + 0.1 * seed}]
        for name, more in (("linear", {"validation": points}), ("test", {"test": {}, "score": 0.2})):
            stored(tmp_path, "tiny", f"{name}_{method}_seed{seed}", settings=settings, **more)
    cells = read_tasks(tmp_path)["tiny"]
    few, rows = curves_figure(cells), methods_figure(cells)
    legend = [text.get_text() for text in few.legends[0].get_texts()]
    assert legend == ["random initialisation", "GVSL on chest CT"]
    assert few.axes[0].lines[0].get_ydata() == pytest.approx([10, 25])
    assert few.axes[0].collections[0].get_datalim(few.axes[0].transData).y1 == pytest.approx(30)  # the second seed
    legend = [text.get_text() for text in rows.legends[0].get_texts()]
    assert legend == ["other methods (2), lowest to highest mean", "random initialisation"]
    band = rows.axes[0].collections[0].get_datalim(rows.axes[0].transData)
    assert (band.y0, band.y1) == pytest.approx((10, 45))
    assert len(rows.axes) == 2 and len(rows.axes[0].lines) == 1
    assert methods_figure([cell for cell in cells if cell["settings"]["method"] not in ("simclr", "byol")]) is None


def cell(folder: Path, name: str, measure: partial, seed: int = 0) -> Cell:
    return Cell(folder / "t.jsonl", name, "kind", {"seed": seed}, measure, folder / "logs" / f"{name}.log")


def measured(pool: ProcessPoolExecutor, *cells: Cell) -> None:
    run_cells(cells, pool, Progress(Counter({"kind": len(cells)}), 2))


@pytest.mark.slow
def test_jobs_measure_the_same_cells_into_the_same_files(tiny_task: Path, transfer: Callable[..., str]) -> None:
    pytest.importorskip("submitit", reason="submitit (extra `cluster`) is not installed")
    results = tiny_task.parent / "results" / "tiny.jsonl"
    job = ["--cluster=local", "--job={'timeout_min': 5}", "--workers=1"]
    printed = transfer("run", tiny_task, "--methods=scratch", *job, protocols="probe")
    assert "1 of 1: probe_scratch_seed0 of tiny" in printed
    of_job = read_results(results)
    results.unlink()
    transfer("run", tiny_task, "--methods=scratch", protocols="probe")
    here = read_results(results)
    measured_alone = {"seconds", "peak_memory_gib", "device", "versions"}
    without = [{key: cell[key] for key in cell.keys() - measured_alone} for (cell,) in (of_job.values(), here.values())]
    assert of_job.keys() == here.keys() == {"probe_scratch_seed0"} and without[0] == without[1]


def test_an_unknown_cluster_and_a_job_without_one_are_refused(tiny_task: Path, transfer: Callable[..., str]) -> None:
    with pytest.raises(ValueError, match=r"cluster is 'pbs', expected one of \['slurm', 'local'\]"):
        transfer("run", tiny_task, "--cluster=pbs")
    with pytest.raises(ValueError, match="cluster is not set"):
        transfer("run", tiny_task, "--job={'timeout_min': 2}")


def test_a_cell_of_other_settings_is_not_passed_off(tmp_path: Path, pool: ProcessPoolExecutor) -> None:
    half, most = partial(dict, dice=0.5), partial(dict, dice=0.9)
    measured(pool, cell(tmp_path, "a", half))
    measured(pool, cell(tmp_path, "a", most))
    assert read_results(tmp_path / "t.jsonl")["a"]["dice"] == 0.5
    with pytest.raises(ValueError, match=r"t\.jsonl: a was measured with other \['seed'\]"):
        measured(pool, cell(tmp_path, "a", most, seed=1))


def test_a_cell_that_fails_takes_no_other_with_it(tmp_path: Path, pool: ProcessPoolExecutor) -> None:
    with pytest.raises(RuntimeError, match=r"bad of t: ValueError: invalid literal.* \(log: .*bad\.log\)"):
        measured(
            pool,
            cell(tmp_path, "bad", partial(int, "x")),
            *(cell(tmp_path, f"good{k}", partial(dict)) for k in range(3)),
        )
    results = read_results(tmp_path / "t.jsonl")
    assert list(results) == ["good0", "good1", "good2"]
    result = results["good0"]
    assert result["settings"] == {"seed": 0} and 0 < result["peak_memory_gib"] < 24 and result["seconds"] >= 0
    assert torch.cuda.is_available() or re.fullmatch(r".+, \d+ threads", result["device"])


def test_a_cell_that_another_run_measures_is_waited_for(tmp_path: Path, pool: ProcessPoolExecutor) -> None:
    chosen = cell(tmp_path, "a", partial(dict, dice=0.5))
    theirs = {"settings": chosen.settings, "dice": 0.9, "seconds": 1.0}
    pool.submit(measure_cell, cell(tmp_path, "first", partial(dict))).result()  # a worker has started
    with locked_log(chosen):
        waiting = pool.submit(measure_cell, chosen)
        with pytest.raises(concurrent.futures.TimeoutError):
            waiting.result(timeout=1)
        append_result(chosen.results, chosen.name, theirs)
    assert waiting.result() == theirs
    assert pool.submit(measure_cell, cell(tmp_path, "b", partial(dict, dice=0.5))).result()["dice"] == 0.5


def test_weights_that_are_gone_are_made_again_where_a_cell_needs_them(
    tiny_task: Path, transfer: Callable[..., str]
) -> None:
    """As in a new clone, which has the cells but no weights. What was measured stays as it was."""
    transfer("run", tiny_task, "--methods=gvsl", protocols="linear")
    shutil.rmtree(tiny_task.parent / "work")
    results = tiny_task.parent / "results" / "tiny.jsonl"
    assert transfer("run", tiny_task, "--methods=gvsl", protocols="linear") == ""
    content = results.read_text().splitlines(keepends=True)
    before = "".join(line for line in content if '"cell": "test_linear_gvsl_seed0"' not in line)
    results.write_text(before)
    lines = transfer("run", tiny_task, "--methods=gvsl", protocols="linear").splitlines()
    made = [line.split(": ")[1].split(" of ")[0] for line in lines]
    assert made == ["pretraining_gvsl_seed0", "linear_gvsl_rate0.01_seed0", "test_linear_gvsl_seed0"]
    assert "5 of 5" in lines[-1] and results.read_text().startswith(before)
    assert not list((tiny_task.parent / "work" / "tiny").glob("*.unfinished"))


def test_weights_whose_making_was_killed_are_made_again(tmp_path: Path, pool: ProcessPoolExecutor) -> None:
    weights, done = tmp_path / "weights", tmp_path / "weights" / "model.pt"
    weights.mkdir()
    (tmp_path / "weights.unfinished").touch()
    maker = dataclasses.replace(cell(tmp_path, "maker", partial(done.touch)), makes=weights)
    stored(tmp_path, "t", "maker", settings=maker.settings, seconds=1.0)
    made = maker.results.read_bytes()
    reader = dataclasses.replace(cell(tmp_path, "reader", partial(dict, dice=0.5)), needs=weights)
    run_cells([reader], pool, Progress(Counter({"kind": 2}), 1), [maker])
    assert done.is_file() and not (tmp_path / "weights.unfinished").exists()
    assert "reader" in read_results(maker.results)
    done.unlink()
    maker.results.write_bytes(made)
    run_cells([reader], pool, Progress(Counter({"kind": 2}), 1), [maker])
    assert "reader" in read_results(maker.results) and not done.exists()  # weights that are there stay


def test_time_left_is_that_of_cells_alike() -> None:
    progress = Progress(Counter(long=3, short=10, new=2), workers=2)
    fields = {"settings": {}, "measure": dict, "log": Path()}
    progress.done(Cell(Path("t"), "a", "long", **fields), {"seconds": 600.0}, measured=False)
    progress.done(Cell(Path("t"), "b", "short", **fields), {"seconds": 60.0}, measured=False)
    assert str(progress) == "about 14 minutes left and 2 cells of kinds not yet timed"  # (2 * 600 + 9 * 60) / 2 workers


def test_workers_end_with_a_killed_run(tiny_task: Path) -> None:
    """Nothing is left behind by kill -9, and what was measured counts."""
    folder = tiny_task.parent
    arguments = [f"--tasks={tiny_task}", f"--data={folder / 'data'}", f"--work={folder / 'work'}", "--seeds=0"]
    arguments += [f"--results={folder / 'results'}", "--methods=scratch", "--protocols=linear", "--workers=1"]
    script = [sys.executable, "-m", "benchmarks.transfer", "run", *arguments]
    results = folder / "results" / "tiny.jsonl"
    with subprocess.Popen(script, cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert "1 of 2" in process.stdout.readline()
        process.kill()
        assert process.stdout.read() == ""  # ends when the last process that holds the pipe does
    before = results.read_bytes()
    done = subprocess.run(script, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.stdout.startswith("2 of 2: test_linear_scratch_seed0") and results.read_bytes().startswith(before)


def test_rate_of_all_seeds_that_choose(tmp_path: Path, tiny_task: Path) -> None:
    """The first seed likes 0.01, the mean of both 0.001."""
    recipe = json.loads(tiny_task.read_text())
    recipe["recipe"]["search_seeds"] = 2
    tiny_task.write_text(json.dumps(recipe))
    task = opened(tmp_path, tiny_task)
    scores = {(0.01, 0): 0.6, (0.001, 0): 0.5, (0.01, 1): 0.2, (0.001, 1): 0.5, (0.01, 2): 0.9}
    for (rate, seed), score in scores.items():
        training = cells.training(task, "scratch", "fine_tuned", rate, seed)
        append_result(task.results, training.name, {"settings": training.settings, "validation": [{"score": score}]})
    assert plan.best_rates(task, [("scratch", "fine_tuned", None)], [0, 1, 2]) == [0.001]
    assert plan.best_rates(task, [("scratch", "fine_tuned", None)], [0]) == [0.01]
    parts = list(stages(task, ["scratch"], ["fine_tuned"], [0, 1, 2]))
    counted = planned([task], ["scratch"], ["fine_tuned"], [0, 1, 2])
    assert counted == {"tiny fine_tuned": 5, "tiny test": 3} == Counter(c.kind for stage in parts for c in stage)


def test_each_seed_draws_its_initial_weights(tiny_task: Path, tmp_path: Path) -> None:
    task = opened(tmp_path, tiny_task)
    downstream = measure.Downstream(task.cohort, task.recipe.overrides())
    first, again, other = (
        measure.backbone_and_volumes(downstream, None, seed, [])[0].state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not all(torch.equal(value, other[name]) for name, value in first.items())


def test_overrides_of_linear_alone(tiny_task: Path) -> None:
    recipe = json.loads(tiny_task.read_text())
    recipe["recipe"]["linear"] = {"max_epochs": 7}
    tiny_task.write_text(json.dumps(recipe))
    task_recipe = read_task_file(str(tiny_task)).recipe
    lengths = [task_recipe.overrides(protocol)["max_epochs"] for protocol in ("linear", "fine_tuned", "")]
    assert lengths == [7, 2, 2]


@pytest.mark.parametrize("name", ["heart", "coronary", "brain", "covid"])
def test_the_thirteen_rows_of_the_table(name: str, tmp_path: Path, no_volumes: None) -> None:
    """All methods of the paper's table, pre-trained once for the four phantom tasks."""
    task = opened(tmp_path, f"{name}_phantoms", quick=True)
    assert len(task.methods(["all"])) == 13
    pretrainings = next(stages(task, ["all"], ["fine_tuned"], [0, 1]))
    pretrainings = [cell for cell in pretrainings if cell.kind == "phantoms pretraining"]
    assert len({cell.key for cell in pretrainings}) == 24
    assert {cell.results.stem for cell in pretrainings} == {"phantoms"}
    assert task.weights("simclr", 1) == tmp_path / "work" / "phantoms" / "simclr_seed1"
    with pytest.raises(ValueError, match=r"methods \['moco'\] are not known for .*_phantoms"):
        task.methods(["moco"])


def test_table_has_gain_best_and_hardware(tmp_path: Path) -> None:
    for method, scores in (("scratch", (0.2, 0.4)), ("gvsl", (0.5, 0.7)), ("simclr", (0.6, 0.8))):
        for seed, score in enumerate(scores):
            settings = {"method": method, "protocol": "linear", "seed": seed, "learning_rate": 0.1}
            result = {"settings": settings, "test": {}, "score": score, "device": "a GPU"}
            stored(tmp_path, "tiny_phantoms", f"test_{method}_seed{seed}", **result)
    text = write_table(tmp_path)
    assert text.startswith("# Transfer\n") and "python -m benchmarks.transfer table" in text
    lines = text[text.index("## tiny_phantoms\n") :].splitlines()
    assert "2 seeds" in lines[1] and "a GPU" in lines[1] and "Synthetic" in lines[2]
    assert lines[-3:] == [
        "| random initialisation | 30.0 ± 14.1 |",
        "| SimCLR | **70.0 ± 14.1** (+40.0) |",
        "| GVSL | 60.0 ± 14.1 (+30.0) |",
    ]
    with (tmp_path / "RESULTS.csv").open(newline="") as file:
        assert list(csv.DictReader(file))[1] == {
            "task": "tiny_phantoms", "labelled": "", "protocol": "linear", "method": "simclr", "seeds": "2",
            "score": "70.0", "spread": "14.1", "gain": "+40.0",
        }  # fmt: skip
    file = tmp_path / "tiny_phantoms.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if '"cell": "test_simclr_seed0"' not in line))
    assert write_table(tmp_path).splitlines()[-3:] == [  # seeds differ: gain over the same seed, nothing is the best
        "| random initialisation | 30.0 ± 14.1 |",
        "| SimCLR | 80.0 (+40.0) |",
        "| GVSL | 60.0 ± 14.1 (+30.0) |",
    ]
    written = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert render(tmp_path, [0])[0].splitlines()[-2:] == [
        "| random initialisation | 20.0 |",
        "| GVSL | **50.0** (+30.0) |",
    ]
    assert (tmp_path / "RESULTS.md").read_text(encoding="utf-8") == written


def test_a_recipe_that_was_searched_is_marked_and_never_the_best(tmp_path: Path) -> None:
    for method, score in (("scratch", 0.2), ("gvsl", 0.7), ("simclr", 0.6)):
        settings = {"method": method, "protocol": "linear", "seed": 0}
        stored(tmp_path, "tiny", f"test_{method}", settings=settings, test={}, score=score, device="a GPU")
    settings = {"method": "gvsl", "seed": 0, "overlays": {"transfer.json": {}}}
    stored(tmp_path, "tiny", "pretraining_gvsl", settings=settings, device="a GPU")
    text = write_table(tmp_path)
    assert "| SimCLR | **60.0** (+40.0) |" in text and "| GVSL † | 70.0 (+50.0) |" in text


def test_table_tells_what_pre_training_did(tmp_path: Path) -> None:
    for seed in range(2):
        content = {
            "settings": {"method": "byol", "seed": seed},
            "training": [{"iteration": 20.0, "loss": 1.0 + seed}, {"iteration": 40.0, "loss": 0.25}],
            "seconds": 60.0 + 120 * seed,
            "peak_memory_gib": 1.0 + seed,
        }
        stored(tmp_path, "phantoms", f"pretraining_byol_seed{seed}", **content)
    assert write_table(tmp_path).splitlines()[-1] == "| BYOL | 2 | 40 | 1.500 to 0.250 | 2 | 2.0 |"


def test_committed_table_is_that_of_the_committed_cells(tmp_path: Path) -> None:
    committed = ROOT / "benchmarks" / "results" / "transfer"
    shutil.copytree(committed, tmp_path / "results", ignore=shutil.ignore_patterns("*.png", "RESULTS.*"))
    write_table(tmp_path / "results")
    for name in ("RESULTS.md", "RESULTS.csv"):
        rendered, stored = [(folder / name).read_text(encoding="utf-8") for folder in (tmp_path / "results", committed)]
        assert rendered == stored, "run python -m benchmarks.transfer table"


def test_committed_cells_have_the_settings_of_the_committed_files(tmp_path: Path, no_volumes: None) -> None:
    """Task files, overlays and plan still ask for what was measured; `earlier` was measured with another train.json."""
    earlier = ("brain", "brain_t1", "hippocampus", "heart_phantoms", "covid_phantoms")
    checked = [committed_cells(name, tmp_path, with_train=False) for name in earlier]
    assert sum(checked) > 500
    assert committed_cells("brains", tmp_path) > 70 and committed_cells("heart_phantoms_similarity", tmp_path) > 4
    with pytest.raises(ValueError, match=r"pretraining_\w+_seed0 was measured with other \['train'\]"):
        committed_cells("brain", tmp_path)
    brains = prepare_task("brains", tmp_path, tmp_path, COMMITTED)
    results = read_results(brains.results)
    variants = [without_train(chosen) for chosen in plan.variant_cells(brains, [], [0, 1, 2])]
    assert any([result_of(chosen, results) is not None for chosen in variants])


def committed_cells(name: str, folder: Path, with_train: bool = True) -> int:
    """The number of a task's planned cells that have committed results, whose settings are compared."""
    task = prepare_task(name, folder, folder, COMMITTED)
    every = [] if name in ("brain_t1", "brains", "heart_phantoms_similarity") else ["all"]
    methods = task.methods(["scratch", *task.file.methods, *every])
    planned_cells = chain.from_iterable(list(stages(task, methods, plan.PROTOCOLS, [0, 1, 2], searched=False))[:3])
    results = {path.stem: read_results(path) for path in {task.results, task.pretraining_task.results}}
    compared = (chosen if with_train else without_train(chosen) for chosen in planned_cells)
    return sum([result_of(chosen, results[chosen.results.stem]) is not None for chosen in compared])


def without_train(chosen: Cell) -> Cell:
    """A cell that does not say what train.json held, like those of the earlier recipe."""
    return replace(chosen, settings={key: value for key, value in chosen.settings.items() if key != "train"})


def test_the_page_quotes_the_committed_table() -> None:
    with (COMMITTED / "RESULTS.csv").open(newline="") as file:
        measured = {f"{row['score']} ± {row['spread']}" for row in csv.DictReader(file)}
    quoted = set(re.findall(r"\d+\.\d ± \d+\.\d", (ROOT / "docs" / "transfer.md").read_text(encoding="utf-8")))
    assert quoted and not quoted - measured


@pytest.mark.parametrize(
    "method, name", [("scratch", "random"), ("gvsl", "GVSL (`train.json`, 640 iterations)")], ids=["random", "gvsl"]
)
def test_the_readme_quotes_the_committed_table(method: str, name: str) -> None:
    """One and four labelled brains, probe and fine-tuned, three seeds."""
    with (COMMITTED / "RESULTS.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["task"] == "brains" and row["method"] == method]
    assert {row["seeds"] for row in rows} == {"3"}
    scores = {(row["protocol"], row["labelled"]): row["score"] for row in rows}
    probe, fine_tuned = (f"{scores[protocol, '1']} / {scores[protocol, '4']}" for protocol in ("probe", "fine_tuned"))
    assert f"| {name} | {probe} | {fine_tuned} |" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "methods, rows",
    [
        pytest.param("scratch,gvsl", 2, id="two methods"),
        pytest.param(None, 13, id="all methods", marks=pytest.mark.slow),
    ],
)
def test_quick_measures_the_whole_table(methods: str | None, rows: int, tmp_path: Path) -> None:
    """Four tasks, two protocols; all thirteen rows in under five minutes on two quiet cores."""
    arguments = [f"--work={tmp_path / 'work'}", f"--results={tmp_path / 'results'}"]
    arguments += [f"--methods={methods}"] if methods else []
    script = [sys.executable, "-m", "benchmarks.transfer", "run", "--quick", *arguments]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("heart", "coronary", "brain", "covid"):
        scores = scores_of(list(read_results(tmp_path / "results" / f"{name}_phantoms.jsonl").values()))
        assert set(scores) == {"linear", "fine_tuned"} and all(len(of) == rows for of in scores.values())


def test_probe_reads_what_features_say() -> None:
    """A feature that is the class is read off exactly; one that is noise is not."""
    generator = torch.Generator().manual_seed(0)
    volumes = []
    for _ in range(3):
        label = torch.randint(0, 3, (1, 8, 8, 8), generator=generator)
        volumes.append((label + 1.0, label))
    informed = probe_dice(torch.nn.Identity(), volumes[:2], [volumes[2:]], classes=3)[0]
    assert informed.shape == (1, 2) and informed.min() > 0.99
    blind = [(torch.rand(1, 8, 8, 8, generator=generator) + 0.1, label) for _, label in volumes]
    assert probe_dice(torch.nn.Identity(), blind[:2], [blind[2:]], classes=3)[0].mean() < 0.6


def test_rank_counts_directions() -> None:
    """Four channels of independent noise span all four; copies of one span one of four."""
    images = [torch.rand(1, 8, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(8)]
    assert rank_share(lambda image: image.reshape(1, 4, -1), images) > 95
    assert rank_share(lambda image: image.repeat(1, 4, 1, 1, 1), images) == pytest.approx(25, abs=0.1)


def test_auc_probe_reads_what_the_bottleneck_says() -> None:
    """A backbone that passes the volume through separates classes of other brightness, and not those of none."""
    backbone = torch.nn.Identity()
    backbone.forward_bottleneck = lambda image: image
    generator = torch.Generator().manual_seed(0)
    bright = [(torch.rand(1, 4, 4, 4, generator=generator) + k % 2, torch.tensor(k % 2)) for k in range(16)]
    assert probe_auc(backbone, bright[:8], bright[8:]) == 1.0
    swapped = [(image, 1 - label) for image, label in bright[8:]]
    assert probe_auc(backbone, bright[:8], swapped) == 0.0


def test_coarse_volumes_lie_where_the_fine_ones_do() -> None:
    fine = torch.zeros(1, 7, 6, 6)
    fine[0, 2:4, 2:4, 2:4] = 8
    coarse = reduced(fine, 2)
    assert coarse.shape == (1, 4, 3, 3) and coarse[0, 1, 1, 1] == 8 and coarse.sum() == 8
    affine = np.array([[-1.5, 0, 0, 10], [0, 1, 0, 20], [0, 0, 2, 30], [0, 0, 0, 1.0]])
    centre = affine @ [2.5, 2.5, 2.5, 1]
    assert np.allclose(coarse_affine(affine, 2) @ [1, 1, 1, 1], centre)


def test_labels_are_merged_and_cleared() -> None:
    task = TaskFile("t", Recipe(), labels={"a": 4, "right": 100, "left": 101}, even_and_odd_above=99)
    assert merged(torch.tensor([0, 4, 5, 100, 101, 176, 207]), task).tolist() == [0, 4, 0, 100, 101, 100, 101]


def test_parts_are_merged_into_the_whole() -> None:
    task = TaskFile("t", Recipe(), labels={"white": 44, "stem": 35}, merge={"44": [81, 83]})
    assert merged(torch.tensor([0, 35, 44, 81, 82, 83]), task).tolist() == [0, 35, 44, 44, 0, 44]


@pytest.mark.parametrize("name", ["brain", "brain_t1", "brains", "head_neck", "hippocampus", "hippocampus_scans"])
def test_committed_splits_are_disjoint(name: str) -> None:
    task = read_task_file(name)
    parts = [set(part) for part in task.split.values()]
    assert sum(map(len, parts)) == len(set.union(*parts))
    items = [{"subject": subject, "label": f"{subject}.nii.gz"} for subject in sorted(parts[0])]
    number = task.labelled if isinstance(task.labelled, int) else max(task.labelled)
    cohort = Cohort(task.bundle, number, pretraining=items)
    draws = {tuple(item["subject"] for item in cohort.labelled_items(seed)) for seed in range(3)}
    assert len(draws) == 3 and all(len(set(draw)) == number for draw in draws)


def test_classes_are_drawn_alike() -> None:
    items = [{"subject": f"s{number}", "label": int(number > 5)} for number in range(9)]
    drawn = Cohort(labelled=4, pretraining=items).labelled_items(seed=0)
    assert sorted(item["label"] for item in drawn) == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="labelled must divide by the 2 classes, got 3"):
        Cohort(labelled=3, pretraining=items).labelled_items(seed=0)


def test_a_public_set_is_fetched_through_monai(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a loopback server; the volumes of the split come to the task's source folder, the others do not."""
    split = {"pretraining": ["h_1"], "validation": ["h_2"], "test": []}
    task = dataclasses.replace(read_task_file("hippocampus"), split=split)
    root = tmp_path / task.decathlon
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
        for number in range(3):
            (root / folder / f"h_{number}.nii.gz").write_text(f"{folder} {number}")
    entries = [{"image": f"./imagesTr/h_{n}.nii.gz", "label": f"./labelsTr/h_{n}.nii.gz"} for n in range(3)]
    properties = ("name", "description", "reference", "licence", "tensorImageSize", "modality", "labels")
    content = dict.fromkeys(properties, "") | {"numTraining": 3, "numTest": 0, "training": entries, "test": []}
    (root / "dataset.json").write_text(json.dumps(content))
    archive = Path(shutil.make_archive(str(tmp_path / "served" / root.name), "tar", tmp_path, root.name))
    shutil.rmtree(root)
    handler = partial(SimpleHTTPRequestHandler, directory=archive.parent)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/{archive.name}"
        monkeypatch.setitem(DecathlonDataset.resource, task.decathlon, address)
        monkeypatch.setitem(DecathlonDataset.md5, task.decathlon, hashlib.md5(archive.read_bytes()).hexdigest())
        source = fetch_volumes(task, tmp_path / "data")
        server.shutdown()
    assert sorted(str(path.relative_to(source)) for path in source.rglob("*.gz")) == [
        "images/h_1.nii.gz", "images/h_2.nii.gz", "labels/h_1.nii.gz", "labels/h_2.nii.gz",
    ]  # fmt: skip
    assert (source / "labels" / "h_2.nii.gz").read_text() == "labelsTr 2"


def test_what_cannot_be_fetched_names_page_and_place(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"get it from https://www\.synapse\.org.*brain_manual/images/ID\.nii\.gz"):
        fetch_volumes(read_task_file("brain"), tmp_path)
    with pytest.raises(ValueError, match="heart_phantoms is synthetic"):
        fetch_volumes(read_task_file("heart_phantoms"), tmp_path)


def test_unknown_task_is_named() -> None:
    with pytest.raises(ValueError, match="task 'liver' is not known, expected one of"):
        read_task_file("liver")
