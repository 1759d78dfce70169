# SPDX-License-Identifier: Apache-2.0
"""What a failing command prints: the reason last, without the wrappers of MONAI, torch and ignite."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose
from torch.utils.data import DataLoader, Dataset

from custom.running.screen import _is_news, print_reason, reason
from custom.volumes import VolumeError

ROOT = Path(__file__).parents[2]


def fail(*_, **__):
    raise VolumeError("a.nii.gz: 2 axes, expected 3")


def error_of(function) -> BaseException:
    with pytest.raises(Exception) as caught:
        function()
    return caught.value


class Failing(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        try:
            Compose([fail])({})
        except RuntimeError as error:
            raise VolumeError("a.nii.gz: 2 axes,\nexpected 3") from error


def test_wrappers_of_components_expressions_and_transforms_are_left_out():
    config = {"inner": {"_target_": f"{__name__}.fail"}, "outer": {"_target_": "Compose", "transforms": "@inner"}}
    parser = ConfigParser(config | {"run": "$@outer.go()", "imports": ["$import os"]})
    parser.config["inner"]["_target_"] = fail
    assert reason(error_of(lambda: parser.get_parsed_content("run"))) == "VolumeError: a.nii.gz: 2 axes, expected 3"
    assert reason(error_of(lambda: Compose([Compose([fail])])({}))) == "VolumeError: a.nii.gz: 2 axes, expected 3"


def test_an_error_in_an_expression_names_it():
    error = error_of(lambda: ConfigParser({"spacing": "$[1, tru]"}).get_parsed_content("spacing"))
    assert reason(error) == "NameError: name 'tru' is not defined, in '$[1, tru]'"


def test_an_error_of_ours_keeps_its_words_instead_of_those_of_its_cause():
    try:
        try:
            int("x")
        except ValueError as cause:
            raise ValueError("a.json is not valid") from cause
    except ValueError as error:
        assert reason(error) == "ValueError: a.json is not valid"


def test_a_loader_worker_keeps_its_reason():
    error = error_of(lambda: list(DataLoader(Failing(), num_workers=1)))
    assert "Traceback" in str(error)
    assert reason(error) == "VolumeError: a.nii.gz: 2 axes,\nexpected 3"


def test_a_long_reason_is_cut_and_its_traceback_is_in_the_file(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("custom.running.screen.held_directory", lambda: tmp_path)
    monkeypatch.delenv("DEBUG", raising=False)
    error = error_of(lambda: torch.nn.Linear(2, 2).load_state_dict({f"key_{n}": torch.ones(1) for n in range(9)}))
    many = ValueError("volumes cannot be used:\n  " + "\n  ".join(f"{n}.nii.gz" for n in range(40)))
    many.__cause__ = error
    print_reason(ValueError, many, many.__traceback__)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) <= 10 and lines[0] == f"The traceback is in {tmp_path / 'error.log'} (DEBUG=1 prints it)."
    assert lines[1] == "ValueError: volumes cannot be used:" and lines[-1].startswith("... and 34 more lines")
    assert "load_state_dict" in (tmp_path / "error.log").read_text()


def test_a_path_that_is_no_utf_8_is_shown(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    error, shown = FileNotFoundError("/caf\udce9 does not exist"), r"FileNotFoundError: /caf\udce9 does not exist"
    for directory, written in ((tmp_path, "error.log"), (None, "*_error.log")):
        monkeypatch.setattr("custom.running.screen.held_directory", lambda directory=directory: directory)
        print_reason(type(error), error, None)
        assert capsys.readouterr().err.splitlines()[-1] == shown
        (file,) = tmp_path.glob(written)
        assert file.read_text("utf-8").splitlines()[-1] == shown


def test_debug_prints_the_traceback_before_the_reason(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("custom.running.screen.held_directory", lambda: tmp_path)
    monkeypatch.setenv("DEBUG", "1")
    error = error_of(fail)
    print_reason(type(error), error, error.__traceback__)
    text = capsys.readouterr().err
    assert "in fail" in text and text.splitlines()[-1] == "VolumeError: a.nii.gz: 2 axes, expected 3"


def test_what_ignite_logs_about_an_error_is_no_news():
    record = logging.LogRecord(
        "ignite", logging.ERROR, "", 0, "Engine run is terminating due to exception: x", (), None
    )
    assert not _is_news(record)
    assert _is_news(logging.LogRecord("a", logging.ERROR, "", 0, "b.nii.gz cannot be read", (), None))


def test_only_a_command_changes_its_screen():
    code = "import custom.running, custom.handlers, sys, logging; print(sys.excepthook is sys.__excepthook__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.stdout.strip() == "True", done.stderr
