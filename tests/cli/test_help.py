# SPDX-License-Identifier: Apache-2.0
"""What gvsl says of itself: help, the table of bundles, docs/command_line.md."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from custom.cli import main
from custom.cli.catalogue import list_bundles
from custom.cli.main import COMMANDS
from custom.files import read_json
from custom.shipped import BUNDLES, find_bundle, shipped_bundles, shipped_weights

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "command_line.md"


def printed(capsys, monkeypatch, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["gvsl", *arguments])
    main()
    return capsys.readouterr().out


def test_gvsl_alone_has_a_line_for_each_command(capsys, monkeypatch):
    text = printed(capsys, monkeypatch)
    assert text == printed(capsys, monkeypatch, "--help") == printed(capsys, monkeypatch, "-h")
    assert re.findall(r"^  (\w+) ", text, flags=re.MULTILINE) == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_explains_every_argument_once_on_its_own_line(name, capsys, monkeypatch):
    text = printed(capsys, monkeypatch, name, "--help")
    assert text == printed(capsys, monkeypatch, name, "liver", "-h")
    sentence, _, usage, *rest = text.splitlines()
    assert sentence.endswith(".") and usage.startswith(f"usage: gvsl {name}")
    positional, options = [], []
    for parameter in inspect.signature(COMMANDS[name]).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            options.append("--KEY VALUE")
        elif parameter.kind is parameter.KEYWORD_ONLY:
            options.append("-o, --output" if parameter.name == "output" else f"--{parameter.name}")
        else:
            positional.append(parameter.name.upper())
    assert re.findall(r"^  (\S+(?: \S+)*)  +\S", "\n".join(rest), flags=re.MULTILINE) == positional + options
    assert re.findall(r"\b[A-Z]+\b", usage) == positional
    assert re.search(rf"^example: gvsl {name} ", text, flags=re.MULTILINE) or name == "list"
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    ("name", "start"),
    [("segment", "gvsl_seg_"), ("classify", "gvsl_covid"), ("finetune", ("gvsl_seg_", "gvsl_covid")), ("evaluate", "")],
)
def test_help_names_the_bundles_of_a_command(name, start):
    line = re.search(r"^  BUNDLE +(.*)", inspect.getdoc(COMMANDS[name]), flags=re.MULTILINE)
    expected = {short for short, folder in shipped_bundles().items() if folder.name.startswith(start)}
    assert set(re.findall(r"\w+", line[1])) & shipped_bundles().keys() == expected


def test_help_and_list_import_neither_torch_nor_monai():
    code = "import sys; from custom.cli import main; main(); print(sorted({'torch', 'monai'} & sys.modules.keys()))"
    for arguments in (["list"], ["--help"], ["segment", "--help"]):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
        assert done.stdout.splitlines()[-1] == "[]"


def test_the_table_has_what_the_bundles_state():
    header, *lines = list_bundles().splitlines()
    assert header.split()[0] == "BUNDLE" and [line.split()[0] for line in lines] == list(shipped_weights())
    for line, (name, folder) in zip(lines, shipped_weights().items(), strict=True):
        weights = read_json(folder / "model.json")
        metadata = read_json(find_bundle(name.partition("/")[0]) / "configs" / "metadata.json")
        size = sum(path.stat().st_size for path in folder.glob("*.pt")) / 1e6
        for value in (weights["data"]["volumes"], f"{size:.0f} MB", weights["licence"]):
            assert f" {value} " in line
        assert line.endswith(metadata["task"]) and ("phantoms" in line) == (weights["trained_on"] == "synthetic")
    heart = read_json(BUNDLES / "gvsl_seg_heart" / "models" / "model.json")["metrics"]["mean_dice"]
    assert f"Dice {heart:.2f}" in lines[list(shipped_weights()).index("heart")]


def test_the_page_has_every_command_and_no_flag_that_does_not_exist():
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines() if line.startswith("gvsl ")]
    assert {line[1] for line in lines} == set(COMMANDS)
    keys = {key for path in BUNDLES.glob("*/configs/*.json") for key in read_json(path)}
    for _, name, *arguments in lines:
        known = keys | set(inspect.signature(COMMANDS[name]).parameters) | {"help"}
        flags = {argument.removeprefix("--") for argument in arguments if argument.startswith("--")}
        assert flags <= known, (name, flags - known)
