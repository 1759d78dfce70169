# SPDX-License-Identifier: Apache-2.0
"""A warning of classes that occur in no training volume."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events

from ..data import SampleDataset

logger = logging.getLogger(__name__)


class AbsentClasses:
    """Warns, when training starts, of each class that no training volume holds; on the first process only.

    Args:
        dataset: the training data set. Volumes are read until every class is found, from the cache if there is one.
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
        """Logs a warning for each absent class; returns their names."""
        volumes = self.dataset.volumes
        seen: set[int] = set()
        for index in range(len(volumes)):
            seen.update(int(value) for value in torch.as_tensor(volumes[index]["label"]).unique())
            if seen >= set(self.classes.values()):
                return []
        absent = [name for name, value in self.classes.items() if value not in seen]
        for name in absent:
            logger.warning(f"none of the {len(volumes)} training volumes holds {name}: it cannot be learnt")
        return absent
