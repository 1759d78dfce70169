# SPDX-License-Identifier: Apache-2.0
"""A virtual environment with MONAI Label, made once from requirements-monailabel.txt and kept in .venv-monailabel."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements-monailabel.txt"
ENVIRONMENT = ROOT / ".venv-monailabel"
MADE_IN, INSTALLED_IN = 3600, 1800  # seconds at most: the environment, which another process may be making; a command
# torchvision has to be built like torch, which a CPU build from a registry may not find; MONAI Label imports two names
STAND_IN = '''"""Stands in for torchvision: what MONAI Label imports and a segmentation bundle never calls."""


def make_grid(*arguments, **named):
    raise NotImplementedError("a stand-in for torchvision")


save_image = make_grid
'''


def monai_label_python() -> Path:
    """The environment's interpreter; installs (minutes) where requirements or Python are not those of the last time.

    One process installs at a time; the others wait for it.

    Raises:
        RuntimeError: a command of the installation failed.
        subprocess.TimeoutExpired: it did not end in time.
        filelock.Timeout: another process is still installing.
    """
    with FileLock(f"{ENVIRONMENT}.lock", timeout=MADE_IN):
        return _made()


def _made() -> Path:
    folder = "Scripts" if os.name == "nt" else "bin"
    python = ENVIRONMENT / folder / ("python.exe" if os.name == "nt" else "python")
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode() + STAND_IN.encode()).hexdigest()
    stamp = ENVIRONMENT / "made_from"
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    torch = next(line for line in REQUIREMENTS.read_text().splitlines() if line.startswith("torch=="))
    pip = [python, "-m", "pip", "install", "--quiet"]
    _run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT])
    _run([*pip, torch])
    _run([*pip, "--no-deps", "-r", REQUIREMENTS])
    library = "lib/python{py_version_short}/site-packages" if os.name != "nt" else "Lib/site-packages"
    package = ENVIRONMENT / library.format(**sysconfig.get_config_vars()) / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text('"""A stand-in, see utils.py."""\n')
    (package / "utils.py").write_text(STAND_IN)
    stamp.write_text(wanted)
    return python


def _run(command: list[str | Path]) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, encoding="utf-8", timeout=INSTALLED_IN)
    if done.returncode:
        raise RuntimeError(f"{command} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
