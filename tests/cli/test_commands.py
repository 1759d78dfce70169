# SPDX-License-Identifier: Apache-2.0
"""Which config files and overrides each command stands for, and what it says of arguments that it does not have."""

from __future__ import annotations

import json
import os
import runpy
import shlex
import sys
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from custom.cli import main
from custom.cli.config_run import MODULE, ConfigRun, path_text
from custom.files import read_json
from custom.shipped import BUNDLES, find_bundle, short_name

MODELS = {name: str(find_bundle(name) / "models") for name in ("heart", "coronary", "brain", "covid", "pretrain")}
# what follows gvsl -> (bundle, config files, overrides)
COMMANDS = {
    "segment heart ct.nii.gz -o out": (
        "gvsl_seg_heart",
        ["inference"],
        {"dataset_dir": "ct.nii.gz", "model_dir": MODELS["heart"], "output_dir": "out"},
    ),
    "segment gvsl_seg_brain mr --weights brain --device cpu": (
        "gvsl_seg_brain",
        ["inference"],
        {
            "dataset_dir": "mr",
            "model_dir": MODELS["brain"],
            "output_dir": "gvsl_output/segment_brain",
            "device": "cpu",
        },
    ),
    "classify covid cts": (
        "gvsl_covid_cls",
        ["inference"],
        {"dataset_dir": "cts", "model_dir": MODELS["covid"], "output_dir": "gvsl_output/classify_covid"},
    ),
    "features 2024 --output=out": (
        "gvsl_pretrain",
        ["inference"],
        {"dataset_dir": "./2024", "model_dir": MODELS["pretrain"], "output_dir": "out"},
    ),
    "register a.nii b.nii --refine 100 --moving_label c.nii --background -1024": (
        "gvsl_pretrain",
        ["register"],
        {
            "moving": "a.nii",
            "fixed": "b.nii",
            "moving_label": "c.nii",
            "model_dir": MODELS["pretrain"],
            "refine": "100",
            "output_dir": "gvsl_output/register",
            "background": "-1024",
        },
    ),
    "propagate labelled cts --weights pretrain/brain": (
        "gvsl_pretrain",
        ["register", "propagate"],
        {
            "atlas_dir": "labelled",
            "dataset_dir": "cts",
            "refine": "20",
            "model_dir": MODELS["pretrain"] + "/brain",
            "output_dir": "gvsl_output/propagate",
        },
    ),
    "pretrain cts --overlay mr,pretext/byol --spacing [1,1,1]": (
        "gvsl_pretrain",
        ["train", "mr", "pretext/byol"],
        {
            "dataset_dir": "cts",
            "output_dir": "gvsl_output/pretrain",
            "overflow_dir": "gvsl_output/cache",
            "spacing": "[1,1,1]",
        },
    ),
    "pretrain": (
        "gvsl_pretrain",
        ["train"],
        {
            "dataset_dir": "gvsl_output/phantoms/pretrain",
            "cohort#root": "gvsl_output/phantoms/pretrain",
            "output_dir": "gvsl_output/pretrain",
            "overflow_dir": "gvsl_output/cache",
        },
    ),
    "finetune coronary data --overlay linear --weights w --train#trainer#max_epochs 3 --resume": (
        "gvsl_seg_coronary",
        ["train", "linear"],
        {
            "dataset_dir": "data",
            "output_dir": "gvsl_output/finetune_coronary",
            "overflow_dir": "gvsl_output/cache",
            "pretrained_weights": "w",
            "train#trainer#max_epochs": "3",
            "resume": "True",
        },
    ),
    "finetune heart data": (
        "gvsl_seg_heart",
        ["train"],
        {"dataset_dir": "data", "output_dir": "gvsl_output/finetune_heart", "overflow_dir": "gvsl_output/cache"},
    ),
    "evaluate pretrain data --overlay mr -o out": (
        "gvsl_pretrain",
        ["train", "mr", "evaluate"],
        {
            "dataset_dir": "data",
            "output_dir": "out",
            "overflow_dir": "gvsl_output/cache",
            "model_dir": MODELS["pretrain"],
        },
    ),
}


@pytest.fixture
def passed_on(monkeypatch, tmp_path):
    """Function from the text after gvsl to the arguments that python -m monai.bundle gets, in an empty folder."""
    caught = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runpy, "run_module", lambda module, **_: caught.append([module, *sys.argv[1:]]))

    def call(text: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["gvsl", *shlex.split(text)])
        main()
        return caught.pop()

    return call


def overrides_of(arguments: list[str]) -> dict[str, str]:
    """--name value pairs after the verb."""
    assert arguments[:2] == [MODULE, "run"] and len(arguments) % 2 == 0
    return {name.removeprefix("--"): value for name, value in zip(arguments[2::2], arguments[3::2], strict=True)}


@pytest.mark.parametrize("text", COMMANDS)
def test_a_command_becomes_configs_and_overrides_and_prints_them(text, passed_on, capsys):
    bundle, files, expected = COMMANDS[text]
    arguments = passed_on(text)
    overrides = overrides_of(arguments)
    paths = [str(BUNDLES / bundle / "configs" / f"{name}.json") for name in files]
    assert overrides.pop("config_file") == (paths[0] if len(paths) == 1 else json.dumps(paths))
    assert all(os.path.isfile(path) for path in paths)
    assert overrides.pop("bundle_root") == str(BUNDLES / bundle)
    assert overrides == expected
    (line,) = capsys.readouterr().out.splitlines()
    assert shlex.split(line) == ["python", "-m", *arguments]


def test_what_was_trained_here_is_used_and_a_name_takes_what_was_shipped(passed_on, tmp_path):
    for trained in ("pretrain", "finetune_heart"):
        (tmp_path / "gvsl_output" / trained).mkdir(parents=True)
        (tmp_path / "gvsl_output" / trained / "model.json").touch()
    for text in ("segment heart a", "evaluate heart a"):
        assert overrides_of(passed_on(text))["model_dir"] == "gvsl_output/finetune_heart"
        assert overrides_of(passed_on(f"{text} --weights heart"))["model_dir"] == MODELS["heart"]
    for text in ("register a b", "features a", "evaluate pretrain a"):
        assert overrides_of(passed_on(text))["model_dir"] == "gvsl_output/pretrain"
    assert overrides_of(passed_on("finetune heart a"))["pretrained_weights"] == "gvsl_output/pretrain"
    for text in ("finetune heart a --weights pretrain", "finetune heart a --overlay scratch"):
        assert "pretrained_weights" not in overrides_of(passed_on(text))
    brain = BUNDLES / "gvsl_pretrain" / "models" / "brain"
    assert overrides_of(passed_on("register a b --weights gvsl_pretrain/brain"))["model_dir"] == str(brain)
    assert overrides_of(passed_on("finetune brain a --weights pretrain"))["pretrained_weights"] == MODELS["pretrain"]
    assert "pretrained_weights" not in overrides_of(passed_on("finetune brain a --weights pretrain/brain"))
    scratch = overrides_of(passed_on("finetune heart a --overlay scratch --weights w"))
    assert scratch["pretrained_weights"] == "w"
    assert overrides_of(passed_on("segment brain a"))["model_dir"] == MODELS["brain"]


@pytest.mark.parametrize(
    "text", ["pretrain", "finetune heart", "finetune coronary", "finetune brain", "evaluate covid"]
)
def test_without_a_folder_phantoms_are_drawn_below_the_working_directory(text, passed_on):
    overrides = overrides_of(passed_on(text))
    parser = ConfigParser(read_json(Path(overrides["bundle_root"]) / "configs" / "train.json"))
    for name in ("bundle_root", "dataset_dir", "cohort#root", "output_dir", "overflow_dir"):
        parser[name] = overrides[name]
    assert str(parser.get_parsed_content("cohort").root) == parser.get_parsed_content("dataset_dir")
    assert parser["dataset_dir"].startswith("gvsl_output/phantoms/")
    assert "@bundle_root + '/data" not in str(parser.get())


def test_phantoms_of_another_cohort_have_a_folder_of_their_own(passed_on):
    folders = [
        overrides_of(passed_on(f"pretrain {overlay}"))["cohort#root"]
        for overlay in ("", "--overlay mr", "--overlay brain")
    ]
    assert folders[0] == folders[1] == "gvsl_output/phantoms/pretrain"
    assert folders[2] == "gvsl_output/phantoms/pretrain_brain"


def test_paths_below_the_working_directory_are_printed_relative_to_it(monkeypatch):
    monkeypatch.chdir(BUNDLES)
    run = ConfigRun(BUNDLES / "gvsl_seg_heart", ("train.json", "linear.json"), {"output_dir": "a b"})
    files = ["gvsl_seg_heart/configs/train.json", "gvsl_seg_heart/configs/linear.json"]
    named = ["--config_file", json.dumps(files), "--bundle_root", "gvsl_seg_heart", "--output_dir", "a b"]
    assert run.arguments() == ["run", *named]
    assert run.command_line() == (
        "python -m monai.bundle run "
        '--config_file \'["gvsl_seg_heart/configs/train.json", "gvsl_seg_heart/configs/linear.json"]\' '
        "--bundle_root gvsl_seg_heart --output_dir 'a b'"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ct.nii.gz", "ct.nii.gz"),
        ("2024", "./2024"),
        ("None", "./None"),
        ("a,b", "./a,b"),
        ("@a", "./@a"),
        ("/1", "/1"),
    ],
)
def test_a_path_stays_a_path(text, expected):
    assert path_text(text) == path_text(Path(text)) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("segmnt heart a", "'segmnt' is no command of gvsl, expected one of segment, classify, register, propagate, "),
        ("--device cpu", "'--device' is no command of gvsl, expected one of segment, "),
        ("segment liver a", "'liver' is no bundle for this command, expected one of brain, coronary, heart\n"),
        ("segment covid a", "'covid' is no bundle for this command, expected one of brain, coronary, heart\n"),
        ("classify heart a", "'heart' is no bundle for this command, expected one of covid\n"),
        ("finetune pretrain a", "'pretrain' is no bundle for this command, expected one of brain, coronary, covid, "),
        ("segment heart", "missing a required argument: 'input'; usage: gvsl segment BUNDLE INPUT ...\n"),
        ("segment heart a b", "too many positional arguments; usage: gvsl segment BUNDLE INPUT ...\n"),
        ("segment heart a --bundle b", "multiple values for argument 'bundle'; usage: gvsl segment BUNDLE INPUT"),
        ("list --device cpu", "got an unexpected keyword argument 'device'; usage: gvsl list\n"),
        ("pretrain a --overlay mri", "overlay is 'mri', expected one of authors, brain, mr, nnunet, paper, "),
        ("finetune heart a --overlay evaluate", "overlay is 'evaluate', expected one of linear, paper, scratch\n"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(text, reason, passed_on, capsys):
    with pytest.raises(SystemExit) as end:
        passed_on(text)
    printed = capsys.readouterr()
    assert end.value.code == 2 and printed.out == "" and printed.err.startswith(f"gvsl: {reason}")


def test_short_names():
    names = ("gvsl_seg_heart", "gvsl_covid_cls", "gvsl_pretrain", "liver")
    assert [short_name(name) for name in names] == ["heart", "covid", "pretrain", "liver"]
    assert find_bundle("heart") == find_bundle("gvsl_seg_heart") and find_bundle("liver") is None
