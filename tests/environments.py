# SPDX-License-Identifier: Apache-2.0
"""Virtual environments with other people's programs, each made once and kept in .venv-NAME."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
MADE_IN, INSTALLED_IN = 3600, 1800  # seconds at most: the environment, which another process may be making; a command
# torchvision has to be built like torch, which a CPU build from a registry may not find; MONAI Label imports two names
STAND_IN = '''"""Stands in for torchvision: what MONAI Label imports and a segmentation bundle never calls."""


def make_grid(*arguments, **named):
    raise NotImplementedError("a stand-in for torchvision")


save_image = make_grid
'''


def python_with(name: str, *packages: str) -> Path:
    """The interpreter of an environment with the packages of requirements.txt, this project and a client's packages.

    Args:
        name: of the client.
        packages: what pip installs for it, with versions.

    Raises:
        as `environment`.
    """
    ours = ["--constraint", "requirements.txt", "-e", "."]
    return environment(name, [["-r", "requirements.txt"], [*ours, *packages]])


def monai_label_python() -> Path:
    """The interpreter of an environment with MONAI Label. It raises what `environment` raises."""
    requirements = "requirements-monailabel.txt"
    torch = next(line for line in (ROOT / requirements).read_text().splitlines() if line.startswith("torch=="))
    modules = {"torchvision/__init__.py": '"""A stand-in, see utils.py."""\n', "torchvision/utils.py": STAND_IN}
    return environment("monailabel", [[torch], ["--no-deps", "-r", requirements]], modules)


def environment(name: str, installs: Sequence[Sequence[str]], modules: Mapping[str, str] | None = None) -> Path:
    """The interpreter of `.venv-NAME`; installs (minutes) where packages, modules or Python are not those of last time.

    One process installs at a time; the others wait for it.

    Args:
        name: of the environment.
        installs: arguments of `pip install`, for each of its calls.
        modules: text of further modules, by their path below site-packages.

    Raises:
        RuntimeError: a command of the installation failed.
        subprocess.TimeoutExpired: it did not end in time.
        filelock.Timeout: another process is still installing.
    """
    with FileLock(ROOT / f".venv-{name}.lock", timeout=MADE_IN):
        return _made(ROOT / f".venv-{name}", installs, modules or {})


def _made(folder: Path, installs: Sequence[Sequence[str]], modules: Mapping[str, str]) -> Path:
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    lists = [(ROOT / word).read_text() for words in installs for word in words if word.endswith(".txt")]
    wanted = hashlib.sha256(repr([sys.version, installs, modules, lists]).encode()).hexdigest()
    stamp = folder / "made_from"
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    run([sys.executable, "-m", "venv", "--clear", folder], timeout=INSTALLED_IN)
    for words in installs:
        run([python, "-m", "pip", "install", "--quiet", *words], cwd=ROOT, timeout=INSTALLED_IN)
    library = "lib/python{py_version_short}/site-packages" if os.name != "nt" else "Lib/site-packages"
    for path, text in modules.items():
        module = folder / library.format(**sysconfig.get_config_vars()) / path
        module.parent.mkdir(exist_ok=True)
        module.write_text(text)
    stamp.write_text(wanted)
    return python


def run(command: Sequence[str | Path], **options) -> str:
    """What a command prints.

    Args:
        command: program and arguments.
        options: of `subprocess.run`.

    Raises:
        RuntimeError: its exit status is not 0; the error has the end of what it printed.
        subprocess.TimeoutExpired: it did not end in time.
    """
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8", **options}
    done = subprocess.run([str(part) for part in command], **options)
    if done.returncode:
        raise RuntimeError(f"{command} failed:\n{done.stdout[-4000:]}")
    return done.stdout
