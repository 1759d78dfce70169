# SPDX-License-Identifier: Apache-2.0
"""Every kind of bad input of the table ends with a non-zero status and a few lines that name it.

`python -m pytest tests/campaign/test_kinds.py -m ""` tries all of them and ends with the figure of the README.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
from kinds.kind import ROOT, Kind
from warm import WarmProcess

AREAS = ("nifti", "itk_formats", "dicom", "labels", "folders", "values", "weights", "states", "tools")
MOST_LINES = 10
LOG = re.compile(r"\d\d:\d\d:\d\d |\d{4}-\d\d-\d\d |.*\d%\|")  # a record or a progress bar begins like this
TABLE: dict[str, Kind] = {
    f"{area}: {kind.name}": kind for area in AREAS for kind in import_module(f"kinds.{area}").KINDS
}


def parameters() -> list:
    return [pytest.param(kind, id=name, marks=[pytest.mark.slow] * kind.slow) for name, kind in TABLE.items()]


def last_words(screen: str) -> list[str]:
    """The lines after the last record of the log and the last progress bar."""
    lines = [line for line in re.split(r"[\r\n]+", screen) if line.strip()]
    ends = [number + 1 for number, line in enumerate(lines) if LOG.match(line)]
    return lines[max(ends, default=0) :]


@pytest.mark.parametrize("kind", parameters())
def test_is_named(kind: Kind, tmp_path: Path, warm: WarmProcess) -> None:
    ended = warm.run(kind.make(tmp_path), ROOT, one_stream=True, limit=120)
    end = last_words(ended.output)
    print(f"{ended.seconds:.2f} s of processor time, {len(end)} lines", *end[-40:], sep="\n")
    assert ended.status > 0, f"exit {ended.status}"
    assert len(end) <= MOST_LINES
    missing = [words for words in kind.words if not re.search(words, "\n".join(end), re.IGNORECASE)]
    assert not missing
