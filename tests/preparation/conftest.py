# SPDX-License-Identifier: Apache-2.0
"""Makes the helpers of this folder importable; where the prepared data go."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"
