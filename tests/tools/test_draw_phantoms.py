# SPDX-License-Identifier: Apache-2.0
"""The README's pictures can be drawn."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("tool", ["draw_phantoms", "draw_brain_phantoms"])
def test_draws_a_subject(tool: str, tmp_path: Path) -> None:
    picture = tmp_path / "phantom.png"
    command = [sys.executable, "-m", f"tools.{tool}", "--subjects", "1", "--output", str(picture)]
    subprocess.run(command, cwd=ROOT, check=True)
    assert picture.read_bytes().startswith(b"\x89PNG")
