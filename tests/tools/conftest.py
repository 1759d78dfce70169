# SPDX-License-Identifier: Apache-2.0
"""The zips of all bundles, made once for the tests of tools/."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).resolve().parents[2] / "tools")]  # zips, the tools

import package_bundles  # noqa: E402


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the zips and model_info.json."""
    folder = tmp_path_factory.mktemp("dist")
    package_bundles.package(str(folder))
    return folder
