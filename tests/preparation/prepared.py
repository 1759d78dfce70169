# SPDX-License-Identifier: Apache-2.0
"""What the tests of the data sets share: empty files, the command line, what a run has written, a second run."""

import csv
import io
import json
import os
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import fire
import pytest

from custom.preparation.cases import Case
from tools import prepare_data


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
    """What tools/prepare_data.py prints, which must end with the status of unusable files and point to them."""
    arguments = [data_set, f"--source={source}", f"--output_dir={output}", *more]
    with redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()) as complained:
        with pytest.raises(SystemExit) as left:
            fire.Fire(prepare_data.COMMANDS, arguments)
    assert left.value.code == 1, complained.getvalue()
    assert "unusable.csv" in complained.getvalue()
    return printed.getvalue()


def check_resuming(prepare: Callable[[], object], output: Path, kept: Path, lost: Path) -> None:
    """A second run leaves the file `kept`, writes the file `lost` again, and dataset.json comes out the same.

    After a change of a source of `kept` a third run writes it again.
    """
    prepare()
    kept_bytes = kept.read_bytes()
    kept.write_bytes(b"kept")
    lost_bytes, before = lost.read_bytes(), (output / "dataset.json").read_bytes()
    lost.unlink()
    leftover = output / ".tmp.elsewhere.1.1.half.nii.gz"  # of a run that was killed, long ago and on another computer
    leftover.touch()
    os.utime(leftover, (0, 0))
    prepare()
    assert not leftover.exists()
    assert kept.read_bytes() == b"kept" and lost.read_bytes() == lost_bytes
    assert (output / "dataset.json").read_bytes() == before
    table = json.loads((output / "prepared.json").read_text())
    (name,) = [name for name in table if kept.name == f"{name}.nii.gz"]
    source = Path(table[name][0][0])
    os.utime(source, ns=(0, source.stat().st_mtime_ns + 1))
    prepare()
    assert kept.read_bytes() == kept_bytes and (output / "dataset.json").read_bytes() == before


def accept_what_exists(monkeypatch) -> None:
    """Cases whose targets exist count as prepared from the present sources."""

    def exists(case: Case, output_dir: Path, prepared: dict) -> bool:
        return all((output_dir / path).is_file() for path in case.targets.values())

    monkeypatch.setattr(Case, "is_done", exists)
