# SPDX-License-Identifier: Apache-2.0
"""The helpers of this folder can be imported."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("restoring", "views")
