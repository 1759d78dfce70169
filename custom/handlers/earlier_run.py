# SPDX-License-Identifier: Apache-2.0
"""A new run never overwrites an earlier one."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from ignite import distributed as idist
from ignite.engine import Engine, Events

logger = logging.getLogger(__name__)
OF_A_RUN = ("model.pt", "heads.pt", "model.json", "training.csv", "validation.csv", "figures", "checkpoints")


class SetAsideEarlierRun:
    """When a run starts that does not resume, moves what an earlier one wrote to earlier/NUMBER.

    Files that no run writes stay, and so does TensorBoard's folder, where each run has event files of its own. Attach
    it before all other handlers.

    Args:
        directory: output of the run. resume: leave everything where it is.
    """

    def __init__(self, directory: str, resume: bool = False) -> None:
        self.directory = Path(directory)
        self.resume = resume

    def attach(self, trainer: Engine) -> None:
        """Registers on the trainer, in the first process."""
        if idist.get_rank() == 0 and not self.resume:
            trainer.add_event_handler(Events.STARTED, self.move)

    def move(self, trainer: Engine) -> None:
        if trainer.state.iteration > 0 or not self.directory.is_dir():  # the same trainer goes on
            return
        entries = [self.directory / name for name in OF_A_RUN if (self.directory / name).exists()]
        if not entries:
            return
        number = 1 + max((int(p.name) for p in self.directory.glob("earlier/*") if p.name.isdigit()), default=0)
        target = self.directory / "earlier" / str(number)
        target.mkdir(parents=True)
        for entry in entries:
            os.replace(entry, target / entry.name)
        logger.info(f"moved an earlier run from {self.directory} to {target}")
