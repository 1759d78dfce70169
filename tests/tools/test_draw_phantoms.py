# SPDX-License-Identifier: Apache-2.0
"""The README's picture can be drawn."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_draws_a_subject(tmp_path: Path) -> None:
    picture = tmp_path / "phantom.png"
    subprocess.run(
        [sys.executable, "tools/draw_phantoms.py", "--subjects", "1", "--output", str(picture)], cwd=ROOT, check=True
    )
    assert picture.read_bytes().startswith(b"\x89PNG")
