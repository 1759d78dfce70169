# SPDX-License-Identifier: Apache-2.0
"""The README's pictures can be drawn."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("kind", ["cardiac", "chest", "brain"])
def test_draws_a_subject(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = tmp_path / "phantom.png"
    monkeypatch.setattr(sys, "argv", ["", "--kind", kind, "--subjects", "1", "--output", str(picture)])
    runpy.run_module("tools.draw_phantoms", run_name="__main__")
    assert picture.read_bytes().startswith(b"\x89PNG")
