# SPDX-License-Identifier: Apache-2.0
"""Weights configure the run: keys of the config that a user has not set take the values of model.json."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from monai.bundle import ConfigParser

from ..files import read_json
from ..running import Overrides, check_values, running_parser
from .compatibility import ACCEPTED_BY_NAME, MAY_DIFFER, OF_THE_LOSS, check_objects, plain
from .components import check_plain
from .origin import task_of
from .state import description_file, weights_file

logger = logging.getLogger(__name__)
TRAINED_ON = {"synthetic": "phantoms", "files": "files of a user"}


def configure_by_weights(loader: str) -> None:
    """Give the keys of the running config that describe weights the values that the weights have.

    Every config calls it in "initialize". The block that loads the weights names what describes them: `components`,
    `preprocessing` and `labels`. The references in it lead to the keys, such as `spacing` or `channels`. A key that an
    overlay or an override sets (`Overrides`) keeps its value; a contradiction is refused when the weights are loaded
    (`check_compatible`). So does what `accept_mismatch` names. A value that is an expression follows from other keys.

    Args:
        loader: id of the block, such as "loaded_network", with the argument `weights`: a file NAME.pt beside its
            NAME.json, or a folder with model.json. Without weights nothing is changed.

    Raises:
        RuntimeError: no config is being run.
        FileNotFoundError: there is no model.json.
        ValueError: model.json is malformed, or would put an expression or an unknown component into the config.
    """
    parser = running_parser()
    if parser is None:
        raise RuntimeError("configure_by_weights is called outside of a bundle config, expected a call in initialize")
    weights = parser.get_parsed_content(f"{loader}#weights") if "weights" in parser[loader] else None
    if weights is None:
        return
    file = description_file(weights)
    description = read_json(file, "the description of the weights")
    check_objects(description, file)
    logger.info(f"weights: {weights_file(weights)}, {_origin(description)}")
    overrides = Overrides(parser)
    taken = {name: value for name, value in _values(parser, loader, description) if name not in overrides}
    for name, value in taken.items():
        check_plain(value, f"{file}: {name}")
        parser[name] = _for_this_run(parser.get(name), value)
    if taken:
        parser.parse()
        try:
            check_values(parser)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
        listed = ", ".join(f"{name} {json.dumps(value)}" for name, value in taken.items())
        logger.info(f"set by these weights: {listed}")


def _origin(description: Mapping[str, Any]) -> str:
    data = TRAINED_ON.get(description.get("trained_on"), "data that model.json does not name")
    return f"{task_of(description)}, {description.get('iterations')} iterations on {data}"


def _values(parser: ConfigParser, loader: str, description: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Key of the config and value of the weights, wherever the two differ."""
    accepted = parser.get_parsed_content(f"{loader}#accept_mismatch")
    for name, component in parser[_followed(parser, f"{loader}#components")].items():
        described, own = description.get(name), parser[_followed(parser, component)]
        may_be_another = name in ACCEPTED_BY_NAME
        if described and name not in accepted and (may_be_another or _same_class(own, described)):
            yield from _differing(parser, component, described)
    preprocessing = _followed(parser, f"{loader}#preprocessing")
    for name, described in (description.get("preprocessing") or {}).items():
        if name in parser[preprocessing] and name not in accepted:
            yield from _differing(parser, f"{preprocessing}#{name}", described)
    if "labels" in parser[loader] and description.get("labels"):
        yield from _differing(parser, f"{loader}#labels", description["labels"])


def _differing(parser: ConfigParser, config_id: str, described: Any) -> Iterator[tuple[str, Any]]:
    """The ids at and below `config_id`, references followed, whose value is another than the described one."""
    config_id = _followed(parser, config_id)
    value = parser[config_id]
    if isinstance(value, str) and value.startswith("$"):
        return
    if _same_class(value, described):
        for name in described.keys() - {"_target_"}:
            child = f"{config_id}#{name}"
            if name in value and (name not in MAY_DIFFER or name in OF_THE_LOSS):
                yield from _differing(parser, child, described[name])
            elif name not in value and name not in MAY_DIFFER:
                yield child, described[name]
    elif json.dumps(plain(value)) != json.dumps(plain(described)):  # as text, because the order of labels matters
        yield config_id, described


def _for_this_run(value: Any, described: Any) -> Any:
    """The described value; a component keeps the arguments of the config that belong to a run, such as its keys."""
    if not (isinstance(value, dict) and isinstance(described, dict)):
        return described
    return described | {name: value[name] for name in MAY_DIFFER if name in value and name in described}


def _followed(parser: ConfigParser, config_id: str) -> str:
    """The id of the value itself, where that with the id `config_id` is a reference to another."""
    value = parser[config_id]
    return _followed(parser, value[1:]) if isinstance(value, str) and value.startswith("@") else config_id


def _same_class(value: Any, described: Any) -> bool:
    """Whether both are components of one class."""
    return all(isinstance(each, dict) and "_target_" in each for each in (value, described)) and (
        plain(value["_target_"]) == plain(described["_target_"])
    )
