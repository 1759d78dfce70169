# SPDX-License-Identifier: Apache-2.0
"""Command lines in the form that the library fire reads: --name value, --name=value, --name, --name a,b."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

FLAG = re.compile(r"--?([A-Za-z][^=]*)(?:=(.*))?", re.DOTALL)


def flags(arguments: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Name and value of each flag; the value is None where another flag or nothing follows."""
    for index, argument in enumerate(arguments):
        if match := FLAG.fullmatch(argument):
            following = arguments[index + 1] if index + 1 < len(arguments) else None
            if match[2] is None and following is not None and not FLAG.fullmatch(following):
                yield match[1], following
            else:
                yield match[1], match[2]


def listed(names: str | int | Sequence[str | int]) -> list[str]:
    """The names in a value such as "a,b", which fire may have read as a tuple, a list or a number.

    Args:
        names: text with commas, a number, or a tuple or list of names.

    Returns:
        The names without spaces around them; empty ones are dropped.
    """
    parts = names if isinstance(names, (list, tuple)) else str(names).split(",")
    return [name for part in parts if (name := str(part).strip())]


def null_overrides(arguments: Sequence[str]) -> list[str]:
    """Names of the flags whose value is None, which fire reads as Python's None."""
    return [name for name, value in flags(arguments) if value == "None"]
