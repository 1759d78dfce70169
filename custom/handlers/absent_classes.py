# SPDX-License-Identifier: Apache-2.0
"""A class that no training volume holds cannot be learnt, and its absence is easily overlooked."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events

from ..data import SampleDataset

logger = logging.getLogger(__name__)


class AbsentClasses:
    """When training starts, warns of each class that no training volume holds, by name; on the first process only.

    Args:
        dataset: the training data set; all its volumes are read once (from its cache where it has one).
        classes: name -> value in "label" after preprocessing; the label is a map or a number.
    """

    def __init__(self, dataset: SampleDataset, classes: Mapping[str, int]) -> None:
        self.dataset = dataset
        self.classes = dict(classes)

    def attach(self, trainer: Engine) -> None:
        """Registers on the trainer."""
        if idist.get_rank() == 0:
            trainer.add_event_handler(Events.STARTED, lambda _: self.check())

    def check(self) -> list[str]:
        """Names of the absent classes."""
        volumes = self.dataset.volumes
        seen: set[int] = set()
        for place in range(len(volumes)):
            seen.update(int(value) for value in torch.as_tensor(volumes[place]["label"]).unique())
            if seen >= set(self.classes.values()):
                return []
        absent = [name for name, value in self.classes.items() if value not in seen]
        for name in absent:
            logger.warning(f"none of the {len(volumes)} training volumes holds {name}: it cannot be learnt")
        return absent
