# SPDX-License-Identifier: Apache-2.0
"""Makes the helpers of this folder importable; where the prepared data go."""

from pathlib import Path

import pytest


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"
