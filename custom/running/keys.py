# SPDX-License-Identifier: Apache-2.0
"""Keys of a config that nothing reads, such as a mistyped override."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS

from ..files import read_json

REFERENCE = re.compile(r"[@%](\w+)")
OF_MONAI = {"_meta_", "imports", "initialize", "run", "finalize", *DEFAULT_MLFLOW_SETTINGS["configs"]}


def check_keys(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse top-level keys that nothing reads: no other value refers to them, and the bundle's config lacks them.

    Args:
        config: files merged, overrides applied, references not resolved.
        folder: see `complete_config`.

    Raises:
        ValueError: there are such keys; the message has the nearest names.
    """
    own = {*complete_config(config, folder), *referenced(config)}
    unknown = [name for name, value in config.items() if name not in own | OF_MONAI and not _is_program(value)]
    if unknown:
        lines = [f"{name!r} is no key of this config{nearest(name, own)}" for name in unknown]
        raise ValueError("\n  ".join(lines))


def complete_config(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The file that is being run, without overlays and overrides.

    Args:
        config: files merged, overrides applied.
        folder: of the config files. Of its complete configs, such as train.json and inference.json, the one that
            shares most keys with `config`.

    Raises:
        ValueError: the folder has no complete config.
    """
    complete = [content for path in sorted(folder.glob("*.json")) if "bundle_root" in (content := read_json(path))]
    if not complete:
        raise ValueError(f"{folder} holds no complete config, expected train.json or inference.json in it")
    return max(complete, key=lambda content: len(content.keys() & config.keys()) / len(content))


def nearest(name: str, names: Iterable[str]) -> str:
    """The end of a message about an unknown name: which known one is nearest, or all of them if there are few."""
    known: Collection[str] = sorted(names)
    if close := difflib.get_close_matches(name, known, n=1):
        return f", expected {close[0]!r}?"
    return f", expected one of {known}" if 0 < len(known) <= 12 else ""


def referenced(config: Mapping[str, Any]) -> set[str]:
    """The top-level keys to which the values of other keys refer."""
    return {target for name, value in config.items() for target in _references(value) if target != name}


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for entry in value.values():
            yield from _references(entry)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _references(entry)
    elif isinstance(value, str) and value.startswith(("@", "%", "$")):
        yield from REFERENCE.findall(value)


def _is_program(value: Any) -> bool:
    """Whether a value is a list of expressions, which `--run_id` can name."""
    return isinstance(value, list) and bool(value) and all(str(entry).startswith("$") for entry in value)
