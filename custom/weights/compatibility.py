# SPDX-License-Identifier: Apache-2.0
"""The network and input that weights were trained with, and the comparison with a config."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..running import resolved_component

logger = logging.getLogger(__name__)

OF_THE_LOSS = ("affine_warped", "places")  # what a pretext network computes for its loss alone
# arguments that belong to a run and not to weights; the spacing is compared as part of the preprocessing
MAY_DIFFER = ("keys", "allow_missing_keys", "frozen", "spacing", *OF_THE_LOSS)
PACKAGES = ("custom.", "scripts.")  # the same code in the repository and in a zip
NEVER_ACCEPTED = ("network", "pretext", "labels")
ACCEPTED_BY_NAME = ("spacing", "orientation", "intensity")
COMPARED = NEVER_ACCEPTED + ACCEPTED_BY_NAME


def describe(components: Mapping[str, str], preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    """Describe network and input for model.json and for `check_compatible`.

    Args:
        components: name -> id in the config, such as {"network": "network_def", "intensity": "intensity"}.
        preprocessing: spacing, orientation, patch size.

    Returns:
        {name: `_target_` and arguments of the component, ..., "preprocessing": preprocessing}.

    Raises:
        RuntimeError: components are named, but no config is being run; see `resolved_component`.
    """
    named = {name: resolved_component(component_id) for name, component_id in components.items()}
    return named | {"preprocessing": dict(preprocessing)}


def check_compatible(
    description: Mapping[str, Any],
    expected: Mapping[str, Any],
    source: str | Path,
    accept_mismatch: Sequence[str] = (),
) -> None:
    """Refuse weights that were trained with another network or other input than those of the config.

    Args:
        description: model.json of the weights.
        expected: `describe` of the config. An entry that one of the two lacks is not compared.
        source: file or folder of the weights, for the message.
        accept_mismatch: names among "spacing", "orientation" and "intensity" that may differ, for example for MR with
            weights from CT; a difference is then logged as a warning.

    Raises:
        ValueError: there are differences, which are listed with both values, or `accept_mismatch` has other names.
    """
    unknown = [name for name in accept_mismatch if name not in ACCEPTED_BY_NAME]
    if unknown:
        raise ValueError(f"accept_mismatch holds {unknown}, expected names among {list(ACCEPTED_BY_NAME)}")
    check_objects(description, source)
    trained, configured = _compared(description), _compared(expected)
    both = [name for name in COMPARED if name in trained and name in configured]
    different = [name for name in both if trained[name] != configured[name]]
    listed = {name: f"{name}: the weights {trained[name]}, the config {configured[name]}" for name in different}
    for name in different:
        if name in accept_mismatch:
            logger.warning(f"{source} is used although {listed[name]}")
    refused = [listed[name] for name in different if name not in accept_mismatch]
    if refused:
        lines = "\n  ".join(refused)
        raise ValueError(
            f"{source} does not fit the config (the weights set what is left out; spacing, orientation and intensity "
            f"can be accepted by name in accept_mismatch):\n  {lines}"
        )


def check_objects(description: Mapping[str, Any], source: str | Path) -> None:
    """Raises ValueError unless the entries of a model.json that hold others are objects, null or absent."""
    for name in ("preprocessing", "network", "pretext", "intensity", "labels", "best"):
        value = description.get(name)
        if value is not None and not isinstance(value, Mapping):
            raise ValueError(f"{source}: {name} in the description is {value!r}, expected an object")


def _compared(description: Mapping[str, Any]) -> dict[str, Any]:
    preprocessing = description.get("preprocessing") or {}
    compared = {name: description[name] for name in ("network", "pretext", "intensity") if description.get(name)}
    compared |= {name: preprocessing[name] for name in ("spacing", "orientation") if name in preprocessing}
    if description.get("labels"):
        compared["labels"] = list(description["labels"].items())  # a list, because the outputs have this order
    return {name: plain(value) for name, value in compared.items()}


def plain(value: Any) -> Any:
    """A value for comparison: floats, lists, targets without package, no arguments of MAY_DIFFER."""
    if isinstance(value, Mapping):
        return {name: plain(entry) for name, entry in value.items() if name not in MAY_DIFFER}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, str) and value.startswith(PACKAGES):
        return value.partition(".")[2]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
