# SPDX-License-Identifier: Apache-2.0
"""Virtual environments with other people's programs, each made once and kept in .venv-NAME."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements.txt"


def python_with(name: str, *packages: str) -> Path:
    """The interpreter of an environment with the packages of requirements.txt, this project and a client's packages.

    Args:
        name: of the client; the environment is `.venv-NAME`.
        packages: what pip installs for it, with versions.
    """
    environment = ROOT / f".venv-{name}"
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = hashlib.sha256("\n".join([REQUIREMENTS.read_text(), sys.version, *packages]).encode()).hexdigest()
    stamp = environment / "made_from"
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    run([sys.executable, "-m", "venv", "--clear", environment])
    pip = [python, "-m", "pip", "install", "--quiet"]
    run([*pip, "-r", REQUIREMENTS])
    run([*pip, "--constraint", REQUIREMENTS, "-e", ROOT, *packages])
    stamp.write_text(wanted)
    return python


def run(command: list[str | Path], **options) -> str:
    """What a command prints.

    Raises:
        RuntimeError: its exit status is not 0; the error has the end of what it printed.
    """
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8", **options}
    done = subprocess.run([str(part) for part in command], **options)
    if done.returncode:
        raise RuntimeError(f"{command} failed:\n{done.stdout[-4000:]}")
    return done.stdout
