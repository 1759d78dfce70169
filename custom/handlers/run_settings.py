# SPDX-License-Identifier: Apache-2.0
"""The settings of a run are kept beside its checkpoints; a run that resumes must have the same."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite import distributed as idist

from ..data import fingerprint
from ..files import read_json, write_json

logger = logging.getLogger(__name__)

# keys that change no number of a step, or that a resumed run may change; the fingerprint stands for the data
NOT_COMPARED = frozenset(
    """
    imports initialize run finalize bundle_root output_dir resume accept_changes figures device deterministic rank
    world_size num_workers cache_dir overflow_dir licence max_epochs val_interval dataset_dir cohort validate task
    network backend gray_scale
    """.split()
)
NOT_COMPARED_IN_TRAIN = frozenset({"handlers", "trainer"})
MISSING = object()


class RunSettings:
    """Refuses a run that resumes with other settings than those with which it began.

    Args:
        path: JSON file of the settings; it is written by `write`.
        config: files merged, overrides applied, references not resolved; {} compares nothing.
        data: items of the training volumes, whose fingerprint is compared; None compares nothing.
        accept_changes: names of keys that may differ, such as "learning_rate"; "data" for other volumes and
            "processes" for another number of processes.

    Raises:
        ValueError: `accept_changes` has a name that is not compared.
    """

    def __init__(
        self,
        path: Path,
        config: Mapping[str, Any],
        data: Sequence[dict[str, Any]] | None = None,
        accept_changes: Sequence[str] = (),
    ) -> None:
        self.path = path
        self.accept_changes = accept_changes
        settings = {name: value for name, value in config.items() if name not in NOT_COMPARED}
        if "train" in settings:
            train = settings["train"].items()
            settings["train"] = {name: value for name, value in train if name not in NOT_COMPARED_IN_TRAIN}
        if data is not None:
            settings["data"] = fingerprint(data)
        if config:
            settings["processes"] = idist.get_world_size()
        self.settings = json.loads(json.dumps(settings))  # tuples become lists, as in the file
        if config and (unknown := [name for name in accept_changes if name not in settings]):
            raise ValueError(f"accept_changes holds {unknown}, expected names among {sorted(settings)}")

    def check(self) -> None:
        """Compare with the file.

        Raises:
            ValueError: there are differences, which are listed with both values.
        """
        if not self.settings:
            return
        if not self.path.is_file():
            logger.warning(f"{self.path} does not exist: it is not checked that the run resumes with its own settings")
            return
        earlier = read_json(self.path, "the settings of the run")
        refused = []
        for name, line in differences(earlier, self.settings):
            if name in self.accept_changes:
                logger.warning(f"the run goes on although its settings differ in {line}")
            else:
                refused.append(line)
        if refused:
            listed = "\n  ".join(refused)
            raise ValueError(
                f"{self.path}: the run cannot resume with other settings (keep them, name those that may differ in "
                f"accept_changes, or begin a new run without resume):\n  {listed}"
            )

    def write(self) -> None:
        """Write the file."""
        if self.settings:
            write_json(self.path, self.settings, "the settings of the run")


def differences(earlier: Mapping[str, Any], present: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Top-level key and description of each value that two settings do not share."""
    for name in sorted(earlier.keys() | present.keys()):
        for key, one, other in _different_values(name, earlier.get(name, MISSING), present.get(name, MISSING)):
            yield name, f"{key}: the run began with {_shown(one)}, now {_shown(other)}"


def _different_values(key: str, one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in one | other:
            yield from _different_values(f"{key}#{name}", one.get(name, MISSING), other.get(name, MISSING))
    elif one != other:
        yield key, one, other


def _shown(value: Any) -> str:
    if value is MISSING:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
