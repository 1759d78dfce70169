# SPDX-License-Identifier: Apache-2.0
"""The network that a model.json describes, built without running anything else that the file may name.

MONAI's ConfigParser evaluates expressions and calls any function that a config names; a model.json comes with
downloaded weights. Here only classes of networks are called, and their arguments are plain JSON values.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

import monai.networks.nets
import torch
from torch import nn

from ..files import read_json

PACKAGE = __name__.split(".")[0]  # "custom", or "scripts" in a zip
OWN = ("custom", "scripts")
ROOMS = ("networks", "pretext")  # folders of this package with networks
ALLOWED = f"{PACKAGE}.networks, {PACKAGE}.pretext, monai.networks or torch.nn"


def network_from(description: str | os.PathLike | Mapping[str, Any]) -> nn.Module:
    """Build the network that a model.json describes, with initial weights.

    Args:
        description: the file, or its content.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the description has no network, names something else than a network of ours, of MONAI or of torch,
            or has an expression or a reference; or the network does not accept the arguments.
    """
    content = description if isinstance(description, Mapping) else read_json(description, "the description of weights")
    source = "model.json" if isinstance(description, Mapping) else str(description)
    if not isinstance(content.get("network"), dict) or "_target_" not in content["network"]:
        raise ValueError(f"{source}: network is {content.get('network')!r}, expected an object with _target_")
    return _built(content["network"], f"{source}: network")


def _built(value: Any, place: str) -> Any:
    """A value of a description, with networks in it built; `place` names it for messages."""
    if isinstance(value, list):
        return [_built(entry, f"{place}#{index}") for index, entry in enumerate(value)]
    if isinstance(value, str) and value.startswith(("$", "@", "%")):
        raise ValueError(f"{place} is {value!r}, expected a plain value and no expression or reference")
    if not isinstance(value, dict):
        return value
    if special := [name for name in value if name.startswith("_") and name != "_target_"]:
        raise ValueError(f"{place} has {special}, expected _target_ and arguments alone")
    entries = {name: _built(entry, f"{place}#{name}") for name, entry in value.items() if name != "_target_"}
    if "_target_" not in value:
        return entries
    kind = _network_class(value["_target_"], f"{place}#_target_")
    try:
        return kind(**entries)
    except Exception as error:
        raise ValueError(f"{place}: {value['_target_']} does not accept {sorted(entries)} ({error})") from error


def _network_class(target: Any, place: str) -> type[nn.Module]:
    """The class of networks that a target names; a name without a dot is one of monai.networks.nets."""
    first, *names = str(target).split(".")
    found: Any = None
    if not names:
        found = getattr(monai.networks.nets, first, None)
    elif first in OWN and names[0] in ROOMS:
        found = _attribute(importlib.import_module(f"..{names[0]}", __package__), names[1:])
    elif (first, names[0]) == ("monai", "networks"):
        found = _attribute(monai.networks, names[1:])
    elif (first, names[0]) == ("torch", "nn"):
        found = _attribute(torch.nn, names[1:])
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(f"{place} is {target!r}, expected a network of {ALLOWED}")
    return found


def _attribute(module: Any, names: list[str]) -> Any:
    """What dotted names below a module stand for, or None; a submodule of ours that is not yet imported is imported."""
    for name in names:
        if name.startswith("_"):
            return None
        if not hasattr(module, name) and getattr(module, "__name__", "").partition(".")[0] == PACKAGE:
            try:
                importlib.import_module(f"{module.__name__}.{name}")
            except ImportError:
                return None
        module = getattr(module, name, None)
    return module
