# SPDX-License-Identifier: Apache-2.0
"""A metric like the AUC does not exist for cases of one class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ignite.engine import Engine


class EveryClass:
    """Refuses, as soon as it is attached, a list of cases that lacks one of the classes.

    Args:
        data: items {"label": value in the data set}. labels: class -> value. part: what the list is, for the message.

    Raises:
        ValueError: when attached; says how many cases there are of each class.
    """

    def __init__(self, data: Sequence[Mapping[str, Any]], labels: Mapping[str, int], part: str) -> None:
        self.data, self.labels, self.part = data, dict(labels), part

    def attach(self, engine: Engine) -> None:
        """Checks; registers nothing."""
        counted = Counter(item.get("label") for item in self.data)
        found = {name: counted[value] for name, value in self.labels.items()}
        absent = [name for name, count in found.items() if count == 0]
        if absent:
            raise ValueError(
                f"{self.part}: {len(self.data)} cases, {found}; the AUC needs cases of every class, none is "
                f"{' or '.join(absent)}"
            )
