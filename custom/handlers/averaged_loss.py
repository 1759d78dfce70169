# SPDX-License-Identifier: Apache-2.0
"""The loss of MONAI's supervised trainer as one number, that of all processes."""

from __future__ import annotations

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from monai.engines import IterationEvents


class AveragedLoss:
    """Makes the output of each training iteration {"loss": float}, averaged over the processes.

    Attach it on every process, before the handlers that read the output (tables, progress, TensorBoard). The trainer
    needs decollate=False.

    Raises:
        FloatingPointError: when the loss is not finite, before the step is taken; names the iteration and the samples.
    """

    def attach(self, trainer: Engine) -> None:
        """Registers on a trainer."""
        trainer.add_event_handler(IterationEvents.LOSS_COMPLETED, self.check)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self.average)

    def check(self, trainer: Engine) -> None:
        loss = trainer.state.output["loss"].detach()
        if not loss.isfinite():
            found = f"{float(loss)} for the samples with index {trainer.state.batch.get('index')}"
            raise FloatingPointError(f"the loss at iteration {trainer.state.iteration} must be finite, found {found}")

    def average(self, trainer: Engine) -> None:
        loss = float(trainer.state.output["loss"].detach())
        if idist.get_world_size() > 1:
            total = idist.all_reduce(torch.tensor(loss, dtype=torch.float64, device=idist.device()))
            loss = float(total) / idist.get_world_size()
        trainer.state.output = {"loss": loss}
