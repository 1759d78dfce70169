# SPDX-License-Identifier: Apache-2.0
"""The default tests with the oldest and with the newest packages that setup.cfg allows.

nox -f tools/noxfile.py -s oldest            every package at its lower bound
nox -f tools/noxfile.py -s newest-3.13       what the registry has today, for one Python

Arguments after -- go to pytest. docs/clients.md says what was run last.
"""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("test", "docs", "pretext", "benchmarks")  # what the default tests need


@nox.session(python="3.11", venv_backend="venv")
def oldest(session: nox.Session) -> None:
    """Every package that setup.cfg names at its lower bound, with the oldest Python."""
    check(session, [name.replace(">=", "==") for name in packages()])


@nox.session(python=["3.11", "3.12", "3.13"], venv_backend="venv")
def newest(session: nox.Session) -> None:
    """The newest packages that the registry has."""
    check(session, packages())


def check(session: nox.Session, names: list[str]) -> None:
    """Installs packages, prints what pip chose, and runs the default tests. The project itself is not installed."""
    session.chdir(ROOT)
    session.install(*names)
    session.run("python", "-m", "pip", "freeze")
    session.run("python", "-m", "pytest", "-n", "2", "--dist", "loadscope", "--no-loadscope-reorder", *session.posargs)


def packages() -> list[str]:
    """The packages that setup.cfg names, with their lower bounds."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lists = [config["options"]["install_requires"], *(config["options.extras_require"][name] for name in EXTRAS)]
    lines = [line.strip() for text in lists for line in text.splitlines()]
    return sorted({line for line in lines if line and not line.startswith("#")})
