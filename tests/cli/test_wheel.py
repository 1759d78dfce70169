# SPDX-License-Identifier: Apache-2.0
"""gvsl after pip install, as a wheel and editable: from an empty folder, without this repository on the path."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest

from custom.labels import CARDIAC_LABELS
from custom.phantoms import CardiacPhantomCohort
from custom.shipped import shipped_weights

ROOT = Path(__file__).resolve().parents[2]
OFFLINE = ("--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", "--quiet")
GENERATED = ("output", "data", "evaluation", "features", "predictions", "release", "registration", "__pycache__")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what pip needs, because it builds in the folder of the sources."""
    folder = tmp_path_factory.mktemp("sources")
    for name in ("custom", "bundles"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns(*GENERATED) if name == "bundles" else None
        )
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


def pip(*arguments: str | Path) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]


def environment_with(folder: Path, *installed: str | Path) -> Path:
    """The folder of the commands of an environment with the packages of this one and one more."""
    venv.create(folder, with_pip=False)
    paths = {"base": str(folder), "platbase": str(folder)}
    own = Path(sysconfig.get_path("purelib", vars=paths))
    (own / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    commands = Path(sysconfig.get_path("scripts", vars=paths))
    pip("--python", commands / "python", "install", *OFFLINE, *installed)
    return commands


def run(commands: Path, folder: Path, *arguments: str | Path) -> list[str]:
    """The lines that gvsl prints in a folder."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    command = [commands / "gvsl", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def test_the_wheel_brings_all_that_gvsl_needs(sources: Path, tmp_path: Path) -> None:
    pip("wheel", *OFFLINE, "--wheel-dir", tmp_path, sources)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("custom", "bundles"):
        for path in (sources / folder).rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                name = path.relative_to(sources).as_posix()
                assert (f"custom/{name}" if folder == "bundles" else name) in names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"custom"}

    commands = environment_with(tmp_path / "environment", wheel)
    work = tmp_path / "work"
    work.mkdir()
    header, *rows = run(commands, work, "list")
    assert [row.split()[0] for row in rows] == list(shipped_weights())

    cohort = CardiacPhantomCohort(str(tmp_path / "phantoms"), subjects=1, seed=9, workers=1)
    files = cohort.files(0)
    cohort.make()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "environment").rglob("*") if path.suffix != ".pyc"}
    lines = run(commands, work, "segment", "heart", tmp_path / "phantoms" / files["image"], "-o", "out")
    assert str(ROOT) not in lines[0] and lines[-1].endswith("wrote 1 cases to out")
    (written,) = (work / "out").glob("*.nii.gz")
    predicted, expected = (
        np.asarray(nibabel.load(path).dataobj) for path in (written, tmp_path / "phantoms" / files["label"])
    )
    dice = [
        2
        * ((predicted == value) & (expected == value)).sum()
        / ((predicted == value).sum() + (expected == value).sum())
        for value in CARDIAC_LABELS.values()
    ]
    assert np.mean(dice) > 0.8
    after = {path for path in (tmp_path / "environment").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert {path for path in before if path.is_file()} == after
    assert [path.name for path in work.iterdir()] == ["out"]


def test_an_editable_install_uses_the_checkout(sources: Path, tmp_path: Path) -> None:
    commands = environment_with(tmp_path / "environment", "--editable", sources)
    assert len(run(commands, tmp_path, "list")) == 1 + len(shipped_weights())
    code = "import custom.shipped, custom.cli.main; print(custom.shipped.BUNDLES)"
    command = [commands / "python", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=True)
    assert Path(done.stdout.strip()) == sources / "bundles"
