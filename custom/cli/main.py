# SPDX-License-Identifier: Apache-2.0
"""The command line of gvsl: help, and the call of a command by fire."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from typing import NoReturn

import fire
from fire.decorators import SetParseFn

from . import commands
from .catalogue import list_bundles
from .config_run import ConfigRun, run_config

HELP = ("-h", "--help")
COMMANDS = {
    "segment": commands.segment,
    "classify": commands.classify,
    "register": commands.register,
    "propagate": commands.propagate,
    "features": commands.features,
    "pretrain": commands.pretrain,
    "finetune": commands.finetune,
    "evaluate": commands.evaluate,
    "list": list_bundles,
}


def main() -> None:
    """Entry point of gvsl: runs the command that `sys.argv` holds.

    Raises:
        SystemExit: with status 2 for arguments that the command does not have.
    """
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in HELP:
        print(overview())
    elif arguments[0] in COMMANDS and not set(arguments).isdisjoint(HELP):
        print(inspect.getdoc(COMMANDS[arguments[0]]))
    else:
        result = _call(arguments)
        if isinstance(result, ConfigRun):
            run_config(result)
        else:
            print(result)


def overview() -> str:
    """One line for each command."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name.ljust(width)}  {inspect.getdoc(command).splitlines()[0]}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: gvsl COMMAND ...; gvsl COMMAND --help explains one", "", *lines])


def _call(arguments: Sequence[str]) -> ConfigRun | str:
    """What a command makes of its arguments, all of them as they were typed."""
    name, *rest = ("--output" if argument == "-o" else argument for argument in arguments)
    if name not in COMMANDS:
        _refuse(f"{name!r} is no command of gvsl, expected one of {', '.join(COMMANDS)}")
    command = COMMANDS[name]
    positional, flags = fire.Fire(_typed, command=rest, name=f"gvsl {name}", serialize=lambda result: None)
    try:
        inspect.signature(command).bind(*positional, **flags)
    except TypeError as error:
        _refuse(f"{error}; {inspect.getdoc(command).splitlines()[2]}")
    try:
        return command(*positional, **flags)
    except ValueError as error:
        _refuse(str(error))


@SetParseFn(str)
def _typed(*positional: str, **flags: str) -> tuple[tuple[str, ...], dict[str, str]]:
    return positional, flags


def _refuse(reason: str) -> NoReturn:
    print(f"gvsl: {reason}", file=sys.stderr)
    raise SystemExit(2)
