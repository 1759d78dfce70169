# SPDX-License-Identifier: Apache-2.0
"""What the tests of the data sets share: empty files, the command line, what a run has written, a second run."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def touch(*paths: Path) -> None:
    """Empty files and the folders above them."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def listed(output: Path) -> dict:
    """dataset.json."""
    return json.loads((output / "dataset.json").read_text())


def unusable_files(output: Path) -> dict[str, str]:
    """Name of a file in unusable.csv -> reason."""
    with (output / "unusable.csv").open(newline="") as file:
        return {Path(row["file"]).name: row["reason"] for row in csv.DictReader(file)}


def command_line(data_set: str, source: Path, output: Path, *more: str) -> str:
    """Standard output of tools/prepare_data.py, which must end with the status of unusable files and point to them."""
    command = [sys.executable, "tools/prepare_data.py", data_set, "--source", source, "--output_dir", output, *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    finished = subprocess.run(
        [str(part) for part in command], cwd=ROOT, capture_output=True, encoding="utf-8", env=environment
    )
    assert finished.returncode == 1, finished.stderr
    assert "unusable.csv" in finished.stderr
    return finished.stdout


def check_resuming(prepare: Callable[[], object], output: Path, kept: Path, lost: Path) -> None:
    """A second run leaves the file `kept`, writes the file `lost` again, and dataset.json comes out the same."""
    prepare()
    kept.write_bytes(b"kept")
    lost_bytes, before = lost.read_bytes(), (output / "dataset.json").read_bytes()
    lost.unlink()
    prepare()
    assert kept.read_bytes() == b"kept" and lost.read_bytes() == lost_bytes
    assert (output / "dataset.json").read_bytes() == before
