# SPDX-License-Identifier: Apache-2.0
"""The output of inference: one file or row for each case, a report, and nothing replaced without a word."""

from __future__ import annotations

import csv
import json
import logging
import resource
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from ignite.engine import Engine, State
from monai.data import MetaTensor

from custom.data import inference_data
from custom.data.cases import Failure
from custom.handlers import PredictionFiles, ProbabilityTable
from custom.volumes import write_volume

LABELS = {"healthy": 0, "ill": 7}
AFFINE = np.diag([2.0, 3.0, 4.0, 1.0])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two subjects whose volumes have the same name."""
    for subject in ("sub-1", "sub-2"):
        (tmp_path / "data" / subject).mkdir(parents=True)
        write_volume(tmp_path / "data" / subject / "ct.nii.gz", np.zeros((2, 3, 4), np.int16), AFFINE)
    return tmp_path


def weights(folder: Path, trained_on: str | None = "files") -> str:
    (folder / "weights").mkdir(exist_ok=True)
    description = {"files": {"model.pt": {"sha256": "abc"}}} | ({"trained_on": trained_on} if trained_on else {})
    (folder / "weights" / "model.json").write_text(json.dumps(description))
    return str(folder / "weights")


def engine(channels: int = 1, stop_after: int | None = None) -> Engine:
    """An evaluator that predicts 0.25, 0.75 and, for volumes, the number of the case."""

    def step(engine: Engine, number: int) -> list[dict]:
        if number == stop_after:
            raise KeyboardInterrupt
        engine.state.batch = [engine.items[number]]
        volume = MetaTensor(torch.full((channels, 2, 3, 4), float(number + 1)), affine=torch.as_tensor(AFFINE))
        return [{"pred": engine.probabilities if channels == 0 else volume}]

    made = Engine(step)
    made.state = State()
    made.probabilities = torch.tensor([0.25, 0.75])
    return made


def predict(folder: Path, kind: str = "volumes", output: str = "out", trained_on: str | None = "files", **arguments):
    """Runs over the volumes of folder/data."""
    data = inference_data(str(folder / "data"))
    made = engine(0 if kind == "table" else arguments.pop("channels", 1), arguments.pop("stop_after", None))
    made.items = data
    made.data_loader = arguments.pop("loader", None)
    if kind == "table":
        table = folder / output / "probabilities.csv"
        ProbabilityTable(str(table), data, weights(folder, trained_on), LABELS).attach(made)
    else:
        arguments = {"postfix": "label", "dtype": "int32"} | arguments
        PredictionFiles(str(folder / output), data, weights(folder, trained_on), **arguments).attach(made)
    made.run(list(range(len(data))), max_epochs=1)
    return folder / output


def report(folder: Path) -> dict:
    return json.loads((folder / "report.json").read_text())


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_one_file_for_each_volume_on_its_grid(folder):
    output = predict(folder)
    assert names(output) == ["report.json", "sub-1/ct_label.nii.gz", "sub-2/ct_label.nii.gz"]
    for number, name in enumerate(names(output)[1:], start=1):
        image = nibabel.load(output / name)
        assert image.get_data_dtype() == np.int32 and np.array_equal(image.affine, AFFINE)
        assert np.array_equal(np.asarray(image.dataobj), np.full((2, 3, 4), number))


def test_channels_are_the_last_axis(folder):
    output = predict(folder, channels=5, postfix="features", dtype="float32")
    image = nibabel.load(output / "sub-2" / "ct_features.nii.gz")
    assert image.shape == (2, 3, 4, 5) and image.get_data_dtype() == np.float32


@pytest.mark.parametrize("kind", ["volumes", "table"])
def test_the_report_says_what_was_written_with_which_weights(kind, folder):
    class Loader:
        failures = [Failure("data/bad.nii.gz", "half a file")]

    content = report(predict(folder, kind, loader=Loader()))
    described = {"file": "model.pt", "sha256": "abc", "task": None, "iterations": None, "trained_on": "files"}
    assert content["weights"] == {"folder": str(folder / "weights"), **described}
    assert content["finished"] is True and "notice" not in content
    files = ["sub-1/ct_label.nii.gz", "sub-2/ct_label.nii.gz"] if kind == "volumes" else ["probabilities.csv"] * 2
    assert [case["file"] for case in content["cases"]] == files and content["outputs"] == sorted(set(files))
    assert [case["case"] for case in content["cases"]] == ["sub-1/ct", "sub-2/ct"]
    assert content["failures"] == [{"case": "data/bad.nii.gz", "reason": "half a file"}]


@pytest.mark.parametrize("kind", ["volumes", "table"])
def test_an_earlier_run_is_moved_and_nothing_else(kind, folder):
    first = {name: (predict(folder, kind) / name).read_bytes() for name in names(predict(folder, kind, output="out"))}
    output = folder / "out"
    (output / "sub-1" / "notes.txt").parent.mkdir(exist_ok=True)
    (output / "sub-1" / "notes.txt").write_text("of the user")
    before = [name for name in names(output) if not name.startswith("earlier")]
    predict(folder, kind)
    newest = max(int(path.name) for path in (output / "earlier").iterdir())
    moved = names(output / "earlier" / str(newest))
    assert moved == [name for name in before if not name.endswith("notes.txt")] and first
    assert (output / "sub-1" / "notes.txt").read_text() == "of the user"


def test_output_of_a_run_without_report_is_moved_too(folder):
    (folder / "out" / "sub-1").mkdir(parents=True)
    (folder / "out" / "sub-1" / "ct_label.nii.gz").write_text("of an older version")
    output = predict(folder)
    assert (output / "earlier" / "1" / "sub-1" / "ct_label.nii.gz").read_text() == "of an older version"


@pytest.mark.parametrize("kind", ["volumes", "table"])
def test_what_was_computed_before_the_end_is_on_the_disk(kind, folder):
    with pytest.raises(KeyboardInterrupt):
        predict(folder, kind, stop_after=1)
    output = folder / "out"
    content = report(output)
    assert content["finished"] is False
    if kind == "volumes":
        assert names(output) == ["report.json", "sub-1/ct_label.nii.gz"]
        assert content["outputs"] == ["sub-1/ct_label.nii.gz", "sub-2/ct_label.nii.gz"]
    else:
        assert [row["case"] for row in rows(output / "probabilities.csv")] == ["sub-1/ct"]
    assert len(inference_data(str(folder / "data"))) == 2


def test_output_among_the_input_is_no_input_of_the_next_run(folder):
    for _ in range(2):
        predict(folder, output="data")
        assert len(inference_data(str(folder / "data"))) == 2
    assert (folder / "data" / "earlier" / "1" / "sub-1" / "ct_label.nii.gz").is_file()


def test_a_file_that_no_run_wrote_is_not_replaced(folder):
    reference = folder / "data" / "sub-1" / "ct_label.nii.gz"
    write_volume(reference, np.ones((2, 3, 4), np.int16), AFFINE)
    content = reference.read_bytes()
    with pytest.raises(ValueError, match=r"ct_label.nii.gz exists, and no earlier run wrote it, expected another"):
        predict(folder, output="data")
    assert reference.read_bytes() == content and not (folder / "data" / "earlier").exists()


def test_a_full_disk_ends_the_run_and_leaves_no_empty_file(folder):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match=r"ct_x.nii.gz: the volume cannot be written \(File too large\)"):
            predict(folder, channels=9000, postfix="x", dtype="float32")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(folder / "out") == ["report.json"]


# ------------------------------------------------------------------------------------------------------- the table


def test_probabilities_of_weights_that_were_trained_on_files(folder):
    table = rows(predict(folder, "table") / "probabilities.csv")
    assert list(table[0]) == ["subject", "case", "probability_healthy", "probability_ill", "class", "value"]
    assert [(row["class"], row["value"]) for row in table] == [("ill", "7")] * 2
    assert [row["case"] for row in table] == ["sub-1/ct", "sub-2/ct"]


@pytest.mark.parametrize(
    ("trained_on", "sentence"), [("synthetic", "on phantoms alone"), (None, "does not say what these weights")]
)
def test_other_weights_give_scores_and_the_reason_once_in_log_and_report(trained_on, sentence, folder, caplog):
    with caplog.at_level(logging.WARNING):
        output = predict(folder, "table", trained_on=trained_on)
    table = rows(output / "probabilities.csv")
    assert list(table[0]) == ["subject", "case", "score_healthy", "score_ill", "notice"]
    assert all(sentence in row["notice"] for row in table) and sentence in report(output)["notice"]
    assert caplog.text.count(sentence) == 1
