# SPDX-License-Identifier: Apache-2.0
"""What is stored with every result."""

from __future__ import annotations

import shlex
import sys

import pytest

from benchmarks.machine import command


def test_the_stored_command_is_one_that_a_shell_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--overrides", '{"spacing": [3.0, 3.0, 3.0]}', "--task", "brains"]
    monkeypatch.setattr(sys, "argv", ["/somewhere/soak.py", *arguments])
    assert shlex.split(command("soak")) == ["python", "-m", "benchmarks.soak", *arguments]
