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
TABLE: dict[str, Kind] = {
    f"{area}: {kind.name}": kind for area in AREAS for kind in import_module(f"kinds.{area}").KINDS
}


def parameters() -> list:
    return [pytest.param(kind, id=name, marks=[pytest.mark.slow] * kind.slow) for name, kind in TABLE.items()]


@pytest.mark.parametrize("kind", parameters())
def test_is_named(kind: Kind, tmp_path: Path, warm: WarmProcess) -> None:
    ended = warm.run(kind.make(tmp_path), ROOT, one_stream=True, limit=120)
    lines = [line for line in re.split(r"[\r\n]+", ended.output) if line.strip()]
    end = "\n".join(lines[-MOST_LINES:])
    end = ended.output if "WHOLE" in __import__("os").environ else end
    print(f"TIME {ended.seconds:.2f} LINES {len(lines)}")
    assert ended.status > 0, f"exit {ended.status}:\n{end}"
    missing = [words for words in kind.words if not re.search(words, end, re.IGNORECASE)]
    assert not missing, f"{missing} not in the last lines:\n{end}"
