# SPDX-License-Identifier: Apache-2.0
"""The zips of all bundles, made once for the tests of tools/."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools import package_bundles

sys.path.insert(0, str(Path(__file__).parent))  # zips


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the zips and model_info.json."""
    folder = tmp_path_factory.mktemp("dist")
    package_bundles.package(str(folder))
    return folder
