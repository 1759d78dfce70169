# SPDX-License-Identifier: Apache-2.0
"""The loss of MONAI's supervised trainer as one number, averaged over all processes."""

from __future__ import annotations

from ignite.engine import Engine, Events
from monai.engines import IterationEvents

from ..engines.steps import averaged, check_finite


class AveragedLoss:
    """Replaces the output of each training iteration by {"loss": float}, the average over the processes.

    Attach it on every process, before the handlers that read the output (tables, progress, TensorBoard). The trainer
    needs decollate=False.

    Raises:
        FloatingPointError: a loss is not finite, see `check_finite`; the step is not taken.
    """

    def attach(self, trainer: Engine) -> None:
        """Registers on a trainer."""
        trainer.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self.average)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self.replace)

    def average(self, trainer: Engine) -> None:
        self.values = averaged({"loss": trainer.state.output["loss"]})
        check_finite(trainer.state.iteration, trainer.state.batch, self.values)

    def replace(self, trainer: Engine) -> None:
        trainer.state.output = self.values
