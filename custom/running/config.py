# SPDX-License-Identifier: Apache-2.0
"""The bundle config that is being run, with overlays and overrides."""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path
from typing import Any, TypeVar

from monai.bundle import ConfigParser, ConfigWorkflow

T = TypeVar("T")
MODULE = "monai.bundle"  # `python -m monai.bundle run`


def running_parser() -> ConfigParser | None:
    """The ConfigParser that is instantiating the caller, or None outside of a bundle run.

    MONAI gives a component its arguments, but no reference to the config. A config cannot pass itself either: in it,
    "@network_def" and "%network_def" are both replaced by the finished object, not by its arguments. Therefore this
    function reads the local variable `self` of each calling frame, innermost first, until it is a ConfigParser.
    """
    return _calling(ConfigParser)


def running_folder(parser: ConfigParser) -> Path:
    """The folder of the first config file of the run; that of the bundle where no ConfigWorkflow runs the config."""
    workflow = _calling(ConfigWorkflow)
    if workflow is None:
        return Path(parser.get_parsed_content("bundle_root")) / "configs"
    return Path(workflow.config_root_path)


def is_command() -> bool:
    """Whether this process is `python -m monai.bundle`, also where torchrun has started it."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name == f"{MODULE}.__main__"


def _calling(kind: type[T]) -> T | None:
    """The innermost `self` of this class among the calling frames."""
    frame = inspect.currentframe()
    while frame is not None:
        if isinstance(found := frame.f_locals.get("self"), kind):
            return found
        frame = frame.f_back
    return None


def resolved_config() -> dict[str, Any]:
    """The config of `running_parser` in JSON types: files merged, overrides applied, references not resolved.

    Returns:
        The config, or {} outside of a bundle run.
    """
    parser = running_parser()
    return {} if parser is None else _without_meta(parser.get())


def published_config() -> dict[str, Any]:
    """`resolved_config` as a published file holds it: of an absolute path only the last part."""
    return without_folders(resolved_config())


def without_folders(value: Any) -> Any:
    """A JSON value in which an absolute path is only its last part: folders may name machines and persons."""
    if isinstance(value, dict):
        return {name: without_folders(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [without_folders(entry) for entry in value]
    return os.path.basename(os.path.normpath(value)) if isinstance(value, str) and os.path.isabs(value) else value


def resolved_component(component_id: str) -> dict[str, Any]:
    """`_target_` and resolved arguments of a component of the running config.

    An argument that is itself a component, written in full or by reference, is described in the same way.

    Args:
        component_id: id in the config, such as "network_def".

    Raises:
        RuntimeError: no config is being run.
    """
    parser = running_parser()
    if parser is None:
        raise RuntimeError(
            f"component {component_id!r} cannot be looked up, expected a call from a bundle config that is being run "
            "(ConfigParser.get_parsed_content); outside of a run name no components"
        )
    return _described(parser, component_id)


def _described(parser: ConfigParser, component_id: str) -> dict[str, Any]:
    arguments = [name for name in parser[component_id] if name != "_target_"]
    values = {name: _described_value(parser, f"{component_id}::{name}") for name in arguments}
    return {"_target_": parser[component_id]["_target_"], **values}


def _described_value(parser: ConfigParser, value_id: str) -> Any:
    value = parser[value_id]
    if isinstance(value, str) and value.startswith("@"):
        return _described_value(parser, value[1:])
    if isinstance(value, dict) and "_target_" in value:
        return _described(parser, value_id)
    return parser.get_parsed_content(value_id)


def _without_meta(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != "_meta_"}
