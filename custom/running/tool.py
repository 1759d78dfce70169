# SPDX-License-Identifier: Apache-2.0
"""The command line of a tool."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import fire

from .arguments import FLAG, flags
from .keys import nearest
from .screen import show_reasons


def run_tool(component: Callable[..., Any] | Mapping[str, Callable[..., Any]]) -> None:
    """Run the command line of a tool with fire; an error prints its reason alone.

    Args:
        component: a function, or command -> function.
    """
    show_reasons()
    check_arguments(component, sys.argv[1:])
    fire.Fire(component)


def check_arguments(component: Callable[..., Any] | Mapping[str, Callable[..., Any]], arguments: Sequence[str]) -> None:
    """Refuse flags that a tool does not have. fire would first do the work without them and complain then.

    Args:
        component: a function, or command -> function.
        arguments: of the command line; what follows a separate "--" is for fire itself.

    Raises:
        ValueError: a flag or a command does not exist; the message has the nearest name.
    """
    own = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    if isinstance(component, Mapping):
        if not own or FLAG.fullmatch(own[0]):  # fire lists the commands
            return
        if own[0] not in component:
            raise ValueError(f"{own[0]!r} is no command{nearest(own[0], component)}")
        component = component[own.pop(0)]
    parameters = inspect.signature(component).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    letters = {name[0] for name in parameters}  # fire accepts -o for --output_dir
    known = {*parameters, *(f"no{name}" for name in parameters), *letters, "help", "h"}
    for name, _ in flags(own):
        if name.replace("-", "_") not in known:
            raise ValueError(f"--{name} is no argument of this command{nearest(name, parameters)}")
