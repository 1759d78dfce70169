# SPDX-License-Identifier: Apache-2.0
"""The zips of all bundles, made once for the tests of tools/, and each trained once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from zips import TINY, bundle_command, run_alone, unpacked

from tools import package_bundles


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the zips and model_info.json."""
    folder = tmp_path_factory.mktemp("dist")
    package_bundles.package(str(folder))
    return folder


@pytest.fixture(scope="session")
def trained(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Function that unpacks a bundle's zip into an empty folder and trains it from there; it returns the folder."""

    @cache
    def train(name: str) -> Path:
        folder = unpacked(dist, name, tmp_path_factory.mktemp("trained"))
        run_alone(bundle_command("run", config_file=f"{name}/configs/train.json", **TINY[name]), folder)
        return folder

    return train
