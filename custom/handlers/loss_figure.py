# SPDX-License-Identifier: Apache-2.0
"""Picture of the loss curves of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ignite import distributed as idist
from ignite.engine import Engine, Events

from ..data.origin import trained_on
from ..figures import loss_figure, save_figure
from ..weights.origin import SYNTHETIC


class LossFigure:
    """Draws losses.png from the CSV tables after each epoch; on the first process only.

    Args:
        path: the picture.
        training: table of the training.
        validation: table of the validation.
        metrics: columns of the validation table that are drawn in plots of their own.
    """

    def __init__(self, path: str, training: str, validation: str, metrics: Sequence[str] = ()) -> None:
        self.path, self.training, self.validation = Path(path), Path(training), Path(validation)
        self.metrics = tuple(metrics)

    def attach(self, trainer: Engine) -> None:
        """Registers on the trainer."""
        if idist.get_rank() == 0:
            trainer.add_event_handler(Events.EPOCH_COMPLETED, self.draw)

    def draw(self, trainer: Engine) -> None:
        synthetic = trained_on(trainer.state.dataloader.dataset.data) == SYNTHETIC
        save_figure(loss_figure(self.training, self.validation, self.metrics, synthetic), self.path)
