# SPDX-License-Identifier: Apache-2.0
"""The real cardiac CT under the shipped weights, as benchmarks/cardiac_cta.py measures it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_committed_figures_come_again(shared_data: Path, tmp_path: Path) -> None:
    output = tmp_path / "cardiac_cta.json"
    command = [sys.executable, ROOT / "benchmarks" / "cardiac_cta.py", "--data", shared_data / "cardiac_cta"]
    subprocess.run([*command, "--output", output, "--docs", tmp_path], check=True, cwd=ROOT)
    found, committed = (
        json.loads(path.read_text()) for path in (output, ROOT / "benchmarks" / "results" / "cardiac_cta.json")
    )
    for name, value in committed["heart"]["dice"].items():
        assert found["heart"]["dice"][name] == pytest.approx(value, abs=1e-3)
    assert found["coronary"]["volume_ml"] == pytest.approx(committed["coronary"]["volume_ml"], rel=1e-2)
    assert all((tmp_path / f"gvsl_seg_{name}.png").stat().st_size > 1e4 for name in ("heart", "coronary"))
