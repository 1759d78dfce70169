# SPDX-License-Identifier: Apache-2.0
"""Which keys of the running config a user has set."""

from __future__ import annotations

import sys

from monai.bundle import ConfigParser

from .arguments import flags
from .config import is_command, running_folder
from .keys import complete_config


class Overrides:
    """The keys that an overlay or an override sets.

    A key is set if its value differs from that of the config file (train.json, inference.json, ...), or if the command
    line names it. A program that passes the value of the file as an override is not noticed.

    Args:
        parser: of the running config.

    Raises:
        ValueError: the folder of the config has no complete config; see `complete_config`.
    """

    def __init__(self, parser: ConfigParser) -> None:
        self.parser = parser
        self.own = ConfigParser(complete_config(parser.get(), running_folder(parser)))
        self.own.parse()
        self.flags = [_parts(name) for name, _ in flags(sys.argv[1:])] if is_command() else []

    def __contains__(self, config_id: str) -> bool:
        """Whether a user has set the value with this id, such as "spacing" or "intensity#a_min", or a part of it."""
        parts = _parts(config_id)
        typed = any(parts[: len(flag)] == flag[: len(parts)] for flag in self.flags)
        return typed or self.parser.get(config_id) != self.own.get(config_id)


def _parts(config_id: str) -> list[str]:
    return config_id.replace("::", "#").split("#")
