# SPDX-License-Identifier: Apache-2.0
"""A new run does not overwrite the files of an earlier one."""

from __future__ import annotations

from pathlib import Path

from ignite import distributed as idist
from ignite.engine import Engine, Events

from ..files import remove_leftovers, set_aside

OF_A_RUN = ("model.pt", "heads.pt", "model.json", "training.csv", "validation.csv", "figures", "checkpoints")


class SetAsideEarlierRun:
    """Moves the files of an earlier run to earlier/NUMBER when a run starts that does not resume.

    Temporary files of a killed run are removed. Other files stay, and the folder of TensorBoard stays too: each run has
    its own event files in it. Attach this handler before all others.

    Args:
        directory: output of the run.
        resume: move nothing; only temporary files are removed.
    """

    def __init__(self, directory: str, resume: bool = False) -> None:
        self.directory = Path(directory)
        self.resume = resume

    def attach(self, trainer: Engine) -> None:
        """Registers on the trainer, in the first process."""
        if idist.get_rank() == 0:
            trainer.add_event_handler(Events.STARTED, self.move)

    def move(self, trainer: Engine) -> None:
        if self.resume or trainer.state.iteration > 0:  # the trainer continues
            remove_leftovers(self.directory, *(self.directory / name for name in OF_A_RUN))
        else:
            set_aside(self.directory, OF_A_RUN)
