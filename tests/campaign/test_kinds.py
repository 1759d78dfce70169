# SPDX-License-Identifier: Apache-2.0
"""Every kind of bad input of the table ends with a non-zero status and a few lines that name it.

The default suite tries a third of them. `python -m pytest tests/campaign/test_kinds.py -k is_named -m ""` tries all and
ends with the figure of the README.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest
from kinds.kind import ROOT, Kind
from warm import WarmProcess

AREAS = ("nifti", "itk_formats", "dicom", "labels", "folders", "values", "weights", "states", "tools")
MOST_LINES = 10
QUICK = 3  # the default suite tries every third kind of an area
LOG = re.compile(r"\d\d:\d\d:\d\d |\d{4}-\d\d-\d\d |.*\d%\|")  # a record or a progress bar begins like this
TABLE: dict[str, tuple[Kind, bool]] = {
    f"{area}: {kind.name}": (kind, number % QUICK == 0)
    for area in AREAS
    for number, kind in enumerate(import_module(f"kinds.{area}").KINDS)
}


def parameters() -> list:
    return [
        pytest.param(kind, id=name, marks=[] if quick else pytest.mark.slow) for name, (kind, quick) in TABLE.items()
    ]


def last_words(screen: str) -> list[str]:
    """The lines after the last record of the log and the last progress bar."""
    lines = [line for line in re.split(r"[\r\n]+", screen) if line.strip()]
    ends = [number + 1 for number, line in enumerate(lines) if LOG.match(line)]
    return lines[max(ends, default=0) :]


@pytest.mark.parametrize("kind", parameters())
def test_is_named(kind: Kind, tmp_path: Path, warm: WarmProcess) -> None:
    ended = warm.run(kind.make(tmp_path), ROOT, one_stream=True)
    end = last_words(ended.output)
    print(f"{ended.seconds:.2f} s of processor time, {len(end)} lines", *end[-40:], sep="\n")
    assert ended.status > 0, f"exit {ended.status}"
    assert len(end) <= MOST_LINES
    missing = [words for words in kind.words if not re.search(words, "\n".join(end), re.IGNORECASE)]
    assert not missing


def test_each_kind_has_a_name_of_its_own_and_every_bundle_and_config_occurs(tmp_path: Path) -> None:
    assert len(TABLE) == sum(len(import_module(f"kinds.{area}").KINDS) for area in AREAS) >= 400
    commands = []
    for number, (kind, _) in enumerate(TABLE.values()):
        if "values" in kind.make.__module__:  # makes no files
            folder = tmp_path / str(number)
            folder.mkdir()
            commands.append(kind.make(folder)[4])
    for bundle in ("gvsl_pretrain", "gvsl_seg_heart", "gvsl_seg_coronary", "gvsl_seg_brain", "gvsl_covid_cls"):
        for config in ("train.json", "inference.json"):
            assert any(f"{bundle}/configs/{config}" in files for files in commands), (bundle, config)
    for config in ("evaluate.json", "register.json"):
        assert any(config in files for files in commands)


@pytest.mark.parametrize("page", ["README.md", "docs/runs.md"])
def test_the_documentation_has_the_number_of_kinds(page: str) -> None:
    assert f"{len(TABLE)} of {len(TABLE)} kinds of bad input" in (ROOT / page).read_text(encoding="utf-8")


AS_PROCESSES = (
    "nifti: truncated .nii.gz",
    "dicom: two series in a folder",
    "folders: no folder, chest",
    "values: learnin_rate 0.1, gvsl_pretrain train",
    "weights: another hash",
    "tools: crop of two numbers",
    "tools: task file that is no JSON",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", AS_PROCESSES)
def test_a_fork_ends_like_a_process(name: str, tmp_path: Path, warm: WarmProcess) -> None:
    """Exit status and last words are those of the command as a user types it."""
    ends = []
    for folder in (tmp_path / "fork", tmp_path / "process"):
        folder.mkdir()
        command = TABLE[name][0].make(folder)
        if folder.name == "fork":
            ended = warm.run(command, ROOT, one_stream=True)
            status, screen = ended.status, ended.output
        else:
            done = subprocess.run([sys.executable, *command], cwd=ROOT, stdout=PIPE, stderr=STDOUT, encoding="utf-8")
            status, screen = done.returncode, done.stdout
        lines = [line.replace(str(folder), "FOLDER") for line in last_words(screen)]
        ends.append((status, [line for line in lines if not line.startswith("The traceback is in")]))
    assert ends[0] == ends[1]
