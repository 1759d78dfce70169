# SPDX-License-Identifier: Apache-2.0
"""The network that a model.json describes, built without running anything else that the file may name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from torch import nn

from ..files import read_json
from .components import check_plain, network_class


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
    check_plain(content["network"], f"{source}: network")
    return _built(content["network"], f"{source}: network")


def _built(value: Any, place: str) -> Any:
    """A value of a description, with networks in it built; `place` names it for messages."""
    if isinstance(value, list):
        return [_built(entry, f"{place}#{index}") for index, entry in enumerate(value)]
    if not isinstance(value, dict):
        return value
    entries = {name: _built(entry, f"{place}#{name}") for name, entry in value.items() if name != "_target_"}
    if "_target_" not in value:
        return entries
    kind = network_class(value["_target_"], f"{place}#_target_")
    try:
        return kind(**entries)
    except Exception as error:
        raise ValueError(f"{place}: {value['_target_']} does not accept {sorted(entries)} ({error})") from error
