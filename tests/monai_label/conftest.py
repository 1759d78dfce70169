# SPDX-License-Identifier: Apache-2.0
"""The stock MONAI Label app with packaged bundles in it."""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from environments import monai_label_python

from tools import package_bundles


@pytest.fixture(scope="session")
def python() -> Path:
    """Interpreter of the environment with MONAI Label."""
    return monai_label_python()


@pytest.fixture
def app(python: Path, tmp_path: Path) -> Path:
    """The stock app, without models."""
    command = [python, "-m", "monailabel.main", "apps", "--download", "--name", "monaibundle", "--output", "apps"]
    subprocess.run([str(part) for part in command], cwd=tmp_path, check=True, capture_output=True, timeout=300)
    (tmp_path / "apps" / "monaibundle" / "model").mkdir()
    return tmp_path / "apps" / "monaibundle"


@pytest.fixture
def add_bundle(app: Path, tmp_path: Path) -> Callable[..., Path]:
    """Function that packages a bundle and unpacks the zip into the app, under another name if one is given."""

    def add(name: str = "gvsl_seg_heart", bundle: str = "gvsl_seg_heart") -> Path:
        (written,) = package_bundles.package(str(tmp_path / "dist"), bundle)
        with zipfile.ZipFile(written) as archive:
            archive.extractall(tmp_path / "unpacked")
        return (tmp_path / "unpacked" / bundle).rename(app / "model" / name)

    return add
