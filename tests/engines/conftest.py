# SPDX-License-Identifier: Apache-2.0
"""Engines are tested as on a CPU that computes bfloat16, whatever this one is."""

from __future__ import annotations

import pytest

from custom.engines import mixed_precision


@pytest.fixture(autouse=True)
def cpu_with_bfloat16(monkeypatch):
    """Makes engines take this CPU for one that has bfloat16 instructions."""
    monkeypatch.setattr(mixed_precision, "computes_bfloat16", lambda: True)
