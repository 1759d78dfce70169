# SPDX-License-Identifier: Apache-2.0
"""The pictures of phantoms can be drawn, and say that they are synthetic."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from custom.figures import SYNTHETIC


@pytest.mark.parametrize(("kind", "rows", "structures"), [("cardiac", 4, 7), ("chest", 4, 0), ("brain", 6, 16)])
def test_draws_a_subject(
    kind: str, rows: int, structures: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr("tools.small_picture.save_small", lambda figure, path: drawn.append(figure))
    monkeypatch.setattr(sys, "argv", ["", "--kind", kind, "--subjects", "1", "--output", str(tmp_path / "a.png")])
    runpy.run_module("tools.draw_phantoms", run_name="__main__")
    (figure,) = drawn
    assert figure.get_suptitle().startswith(SYNTHETIC)
    assert len(figure.axes) == rows and all(plot.texts[-1].get_text().endswith(" mm") for plot in figure.axes)
    assert len(figure.legends[0].get_texts()) == structures
