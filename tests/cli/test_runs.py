# SPDX-License-Identifier: Apache-2.0
"""Each command at toy size, in an empty folder: pre-train, fine-tune, evaluate, and use what was trained."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from sizes import SHORT, SMALL
from warm import Ended, WarmProcess

from custom.files import read_json


def succeeded(done: Ended) -> list[str]:
    """The lines of standard output; the first is the command of MONAI."""
    assert done.status == 0, done.errors[-3000:]
    lines = done.output.splitlines()
    assert lines[0].startswith("python -m monai.bundle run --config_file ")
    assert "input summary" not in done.output and "parsing config_file" not in done.errors
    return lines


@pytest.fixture(scope="module")
def folder(gvsl: Callable[[str, Path], Ended], volumes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory in which a backbone was pre-trained, and fine-tuned for the heart from there."""
    folder = tmp_path_factory.mktemp("work")
    lines = succeeded(gvsl(f"pretrain {volumes} {SHORT} --validation_pairs 2", folder))
    assert lines[-1].endswith("written to gvsl_output/pretrain")
    lines = succeeded(gvsl(f"finetune heart {volumes} {SHORT} --warmup_iterations 1", folder))
    assert lines[0].endswith("--warmup_iterations 1") and "--pretrained_weights gvsl_output/pretrain" in lines[0]
    return folder


def test_training_writes_into_the_working_directory_alone(folder, volumes):
    assert read_json(folder / "gvsl_output" / "pretrain" / "model.json")["iterations"] == 1
    started_from = read_json(folder / "gvsl_output" / "finetune_heart" / "model.json")["started_from"]
    pretrained = read_json(folder / "gvsl_output" / "pretrain" / "model.json")["files"]["model.pt"]["sha256"]
    assert started_from["sha256"] == pretrained
    assert {path.name for path in folder.iterdir()} == {"gvsl_output"}
    assert {path.name for path in volumes.iterdir()} == {"images", "labels"}


def test_evaluate_measures_what_was_fine_tuned_here(folder, gvsl, volumes):
    lines = succeeded(gvsl(f"evaluate heart {volumes} {SMALL} --figures False", folder))
    assert lines[-1].endswith("written to gvsl_output/evaluate_heart")
    report = read_json(folder / "gvsl_output" / "evaluate_heart" / "metrics.json")
    trained = read_json(folder / "gvsl_output" / "finetune_heart" / "model.json")["files"]["model.pt"]["sha256"]
    assert report["weights"]["sha256"] == trained and report["cases"] == 2


def test_segment_writes_what_the_printed_command_writes(folder, gvsl, warm: WarmProcess, volumes, tmp_path):
    lines = succeeded(gvsl(f"segment heart {volumes / 'images' / '0.nii.gz'} -o out --weights heart {SMALL}", tmp_path))
    written = tmp_path / "out" / "0_label.nii.gz"
    label = np.asarray(nibabel.load(written).dataobj)
    assert label.shape == (24, 24, 24) and len(np.unique(label)) > 1
    first = written.read_bytes()
    done = warm.run(shlex.split(lines[0])[1:], tmp_path)
    assert done.status == 0, done.errors[-3000:]
    assert written.read_bytes() == first and (tmp_path / "out" / "earlier" / "1" / "0_label.nii.gz").is_file()


def test_classify_writes_the_scores_of_the_classes(gvsl, volumes, tmp_path):
    succeeded(gvsl(f"classify covid {write_chest(tmp_path)} --device cpu", tmp_path))
    with (tmp_path / "gvsl_output" / "classify_covid" / "probabilities.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert 0 <= float(row["score_COVID-19"]) <= 1


def write_chest(folder: Path) -> Path:
    """A body in air with two lungs, 40^3 at 8 mm."""
    ct = np.full((40, 40, 40), -1000, dtype=np.int16)
    ct[4:36, 8:32, 2:38] = 40
    ct[8:18, 12:28, 8:32] = ct[22:32, 12:28, 8:32] = -850
    nibabel.save(nibabel.Nifti1Image(ct, np.diag([8.0, 8.0, 8.0, 1.0])), folder / "chest.nii.gz")
    return folder / "chest.nii.gz"


def test_register_refines_and_features_are_computed_with_the_weights_of_here(folder, gvsl, volumes):
    moving, fixed = (volumes / "images" / f"{number}.nii.gz" for number in (0, 1))
    label = volumes / "labels" / "0.nii.gz"
    succeeded(gvsl(f"register {moving} {fixed} --moving_label {label} --refine 3 --device cpu", folder))
    report = read_json(folder / "gvsl_output" / "register" / "registration.json")
    assert report["registration_refined"] < report["registration_after"]
    assert nibabel.load(folder / "gvsl_output" / "register" / "warped_label.nii.gz").shape == (24, 24, 24)
    succeeded(gvsl(f"features {fixed} -o f {SMALL}", folder))
    assert nibabel.load(folder / "f" / "1_features.nii.gz").shape == (24, 24, 24, 16)
    digest = read_json(folder / "gvsl_output" / "pretrain" / "model.json")["files"]["model.pt"]["sha256"]
    assert read_json(folder / "f" / "report.json")["weights"]["sha256"] == digest


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("segment heart absent.nii.gz", "FileNotFoundError: dataset_dir 'absent.nii.gz' does not exist, expected"),
        ("pretrain 2024", "FileNotFoundError: dataset_dir './2024' does not exist, expected"),
        ("features {volumes}/images/0.nii.gz --weights absent", "FileNotFoundError: absent"),
        ("segment heart . --devise cpu", "ValueError: 'devise' is no key of this config, expected 'device'?"),
        ("register a b --refine", "ValueError: refine is True, expected a whole number of at least 0"),
    ],
)
def test_an_error_of_a_run_ends_with_its_reason(text, reason, gvsl, volumes, tmp_path):
    done = gvsl(text.format(volumes=volumes), tmp_path)
    assert done.status == 1
    *_, pointer, last = done.errors.splitlines()
    assert pointer.startswith("The traceback is in ") and last.startswith(reason), done.errors[-1500:]
