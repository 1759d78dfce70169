# SPDX-License-Identifier: Apache-2.0
"""What weights expect of their input, and whether a config gives it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .running_config import resolved_component

logger = logging.getLogger(__name__)

# arguments that say where a component acts or how it was trained, not what it does
MAY_DIFFER = ("keys", "allow_missing_keys", "frozen")
PACKAGES = ("custom.", "scripts.")  # the same code in the repository and in a zip
NEVER_ACCEPTED = ("network", "labels")
ACCEPTED_BY_NAME = ("spacing", "orientation", "intensity")
COMPARED = NEVER_ACCEPTED + ACCEPTED_BY_NAME


def describe(components: Mapping[str, str], preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    """What model.json says of the input: `_target_` and arguments of components of the running config, and scalars.

    Args:
        components: name -> id in the config, such as {"network": "network_def", "intensity": "intensity"}.
        preprocessing: spacing, orientation, patch size.
    """
    named = {name: resolved_component(component_id) for name, component_id in components.items()}
    return named | {"preprocessing": dict(preprocessing)}


def check_compatible(
    description: Mapping[str, Any],
    expected: Mapping[str, Any],
    source: str | Path,
    accept_mismatch: Sequence[str] = (),
) -> None:
    """Refuses weights that were trained for other networks or other input than the config gives.

    Args:
        description: model.json of the weights. expected: the config's side, from `describe`. What one of the two
            does not say is not compared.
        source: the weights, for the message.
        accept_mismatch: names among "spacing", "orientation" and "intensity" that may differ (MR from CT weights);
            a difference is then logged as a warning.

    Raises:
        ValueError: names every difference with both sides, or an unknown name in accept_mismatch.
    """
    unknown = [name for name in accept_mismatch if name not in ACCEPTED_BY_NAME]
    if unknown:
        raise ValueError(f"accept_mismatch holds {unknown}, expected names among {list(ACCEPTED_BY_NAME)}")
    theirs, ours = _compared(description), _compared(expected)
    different = [name for name in COMPARED if name in theirs and name in ours and theirs[name] != ours[name]]
    listed = {name: f"{name}: the weights {theirs[name]}, the config {ours[name]}" for name in different}
    for name in different:
        if name in accept_mismatch:
            logger.warning(f"{source} is used although {listed[name]}")
    refused = [listed[name] for name in different if name not in accept_mismatch]
    if refused:
        lines = "\n  ".join(refused)
        raise ValueError(
            f"{source} does not fit the config (change the config, or accept spacing, orientation or intensity by "
            f"name in accept_mismatch):\n  {lines}"
        )


def _compared(description: Mapping[str, Any]) -> dict[str, Any]:
    preprocessing = description.get("preprocessing", {})
    found = {name: description[name] for name in ("network", "intensity") if description.get(name)}
    found |= {name: preprocessing[name] for name in ("spacing", "orientation") if name in preprocessing}
    if description.get("labels"):
        found["labels"] = list(description["labels"].items())  # their order is that of the network's outputs
    return {name: _plain(value) for name, value in found.items()}


def _plain(value: Any) -> Any:
    """Numbers as floats, tuples as lists, targets without package, without the arguments that may differ."""
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items() if name not in MAY_DIFFER}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, str) and value.startswith(PACKAGES):
        return value.partition(".")[2]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
