# SPDX-License-Identifier: Apache-2.0
"""The classes that a model.json may name.

MONAI's ConfigParser evaluates expressions and calls any function that a config names; a model.json comes with
downloaded weights. What is taken from it is plain JSON, and names networks, geometries and intensity transforms alone.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import monai.networks.nets
import monai.transforms
import torch
from monai.transforms import MapTransform
from torch import nn

PACKAGE = __name__.split(".")[0]  # "custom", or "scripts" in a zip
OWN = ("custom", "scripts")
NETWORK_ROOMS = ("networks", "pretext")  # folders of this package
ROOMS = (*NETWORK_ROOMS, "layers", "transforms")
NETWORKS = f"{PACKAGE}.networks, {PACKAGE}.pretext, monai.networks or torch.nn"
INTENSITIES = "monai.transforms.intensity.dictionary"


def network_class(target: Any, place: str) -> type[nn.Module]:
    """The class of networks that a `_target_` names; a name without a dot is one of monai.networks.nets.

    Args:
        target: the value of `_target_`.
        place: where it stands, for the message.

    Raises:
        ValueError: it is no network of ours, of MONAI or of torch.
    """
    first, *names = str(target).split(".")
    found = None
    if not names:
        found = _class_of(monai.networks, ["nets", first])
    elif first in OWN and names[0] in NETWORK_ROOMS:
        found = _of_this_package(names)
    elif (first, names[0]) == ("monai", "networks"):
        found = _class_of(monai.networks, names[1:])
    elif (first, names[0]) == ("torch", "nn"):
        found = _class_of(torch.nn, names[1:])
    if not (found and issubclass(found, nn.Module)):
        raise ValueError(f"{place} is {target!r}, expected a network of {NETWORKS}")
    return found


def check_plain(value: Any, place: str) -> None:
    """Refuse a value of a model.json that a config must not take.

    Args:
        value: numbers, texts, lists and objects; an object with `_target_` is a component.
        place: where it stands, for the message.

    Raises:
        ValueError: there is an expression or a reference, or a component is neither a network nor a geometry of this
            package nor an intensity transform.
    """
    if isinstance(value, str) and value.startswith(("$", "@", "%")):
        raise ValueError(f"{place} is {value!r}, expected a plain value and no expression or reference")
    if isinstance(value, dict):
        if special := [name for name in value if name.startswith("_") and name != "_target_"]:
            raise ValueError(f"{place} has {special}, expected _target_ and arguments alone")
        if "_target_" in value and not _is_intensity_or_own(value["_target_"]):
            network_class(value["_target_"], f"{place}#_target_")
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, entry in entries:
        if name != "_target_":
            check_plain(entry, f"{place}#{name}")


def _is_intensity_or_own(target: Any) -> bool:
    """Whether a `_target_` is an intensity transform of MONAI, or a class that is defined in `ROOMS`."""
    first, *names = str(target).split(".")
    if names and first in OWN:
        found = _of_this_package(names) if names[0] in ROOMS else None
        return found is not None and (names[0] != "transforms" or issubclass(found, MapTransform))
    found = getattr(monai.transforms, str(target).removeprefix("monai.transforms."), None)
    return getattr(found, "__module__", None) == INTENSITIES and isinstance(found, type)


def _of_this_package(names: list[str]) -> type | None:
    """The class below a folder of this package that dotted names stand for, or None, also where a zip lacks it."""
    try:
        return _class_of(importlib.import_module(f"..{names[0]}", __package__), names[1:])
    except ImportError:
        return None


def _class_of(package: ModuleType, names: list[str]) -> type | None:
    """The class that dotted names below a package stand for, or None if it is not defined in the package.

    Names that its modules only import do not count: otherwise `subprocess.Popen` could be reached through a module that
    imports subprocess.
    """
    found = _attribute(package, names)
    defined_in = getattr(found, "__module__", None)
    inside = defined_in == package.__name__ or str(defined_in).startswith(f"{package.__name__}.")
    return found if inside and isinstance(found, type) else None


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
