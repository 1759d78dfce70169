# SPDX-License-Identifier: Apache-2.0
"""A run of config files with overrides: the arguments of `python -m monai.bundle`, which is printed and then run."""

from __future__ import annotations

import json
import logging
import os
import runpy
import shlex
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from fire.parser import DefaultParseValue

MODULE = "monai.bundle"


class ConfigRun(NamedTuple):
    """What a command runs.

    Args:
        bundle: folder of the bundle.
        files: names of the config files below configs/, the overlays last.
        overrides: key of the config -> value as text.
    """

    bundle: Path
    files: tuple[str, ...]
    overrides: Mapping[str, str]

    def arguments(self) -> list[str]:
        """The arguments of `python -m monai.bundle`."""
        bundle = shown(self.bundle)
        paths = [os.path.join(bundle, "configs", name) for name in self.files]
        named = {"config_file": _one_or_list(paths), "bundle_root": bundle, **self.overrides}
        return ["run", *(part for name, value in named.items() for part in (f"--{name}", value))]

    def command_line(self) -> str:
        """The command for a shell."""
        return shlex.join(["python", "-m", MODULE, *self.arguments()])


def run_config(run: ConfigRun) -> None:
    """Print the command and run it in this process; the last line of the run names the results and their folder."""
    print(run.command_line(), flush=True)
    _leave_out_repetitions()
    sys.argv = [MODULE, *run.arguments()]
    runpy.run_module(MODULE, run_name="__main__", alter_sys=True)


def _leave_out_repetitions() -> None:
    """Silences two messages of MONAI: the overrides, which the printed command has, and the warning of config files."""
    for name in ("monai.bundle.scripts", "monai.bundle.workflows"):
        logging.getLogger(name).addFilter(lambda record: record.levelno > logging.INFO)
    warnings.filterwarnings("ignore", "parsing config_file")  # the files are those of this package


def path_text(path: str | os.PathLike) -> str:
    """A path that fire and MONAI leave as it is: ./2024 for 2024, which fire reads as a number, ./@a for @a."""
    text = os.fspath(path)
    is_plain = DefaultParseValue(text) == text and not text.startswith(("@", "%", "$"))
    return text if is_plain else os.path.join(os.curdir, text)


def _one_or_list(paths: list[str]) -> str:
    """A path, or a list in the double quotes that a shell's single quotes leave readable."""
    return paths[0] if len(paths) == 1 else json.dumps(paths, ensure_ascii=False)


def shown(path: Path) -> str:
    """A path relative to the working directory where it is below it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
