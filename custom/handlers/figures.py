# SPDX-License-Identifier: Apache-2.0
"""Pictures of a run: registered pairs and loss curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ignite import distributed as idist
from ignite.engine import Engine, Events

from ..figures import loss_figure, registration_figure, save_figure


class RegistrationFigures:
    """Draws the first pairs of each evaluation as registration_PAIR.png; on the first process only.

    Args:
        directory: where the pictures go.
        pairs: number of pairs.
    """

    def __init__(self, directory: str, pairs: int = 2) -> None:
        self.directory = Path(directory)
        self.pairs = pairs

    def attach(self, engine: Engine) -> None:
        """Registers on an evaluator whose outputs hold "warped" and "displacement"."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self.draw)

    def draw(self, engine: Engine) -> None:
        batch, outputs = engine.state.batch, engine.state.output
        for row, index in enumerate(batch["index"].tolist()):
            if index >= self.pairs or "warped" not in outputs:
                continue
            volumes = [batch["moving"][row, 0], batch["fixed"][row, 0], outputs["warped"][row, 0]]
            arrays = [tensor.float().cpu().numpy() for tensor in (*volumes, outputs["displacement"][row])]
            title = ", ".join(f"{name} {value:.3f}" for name, value in self._measured(outputs, row).items())
            save_figure(registration_figure(*arrays, title), self.directory / f"registration_{index}.png")

    @staticmethod
    def _measured(outputs: dict, row: int) -> dict[str, float]:
        prefixes = ("registration_", "dice_", "folded_")
        return {name: float(value[row]) for name, value in outputs.items() if name.startswith(prefixes)}


class LossFigure:
    """Draws losses.png from the CSV tables after each validation and at the end; on the first process only.

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
        save_figure(loss_figure(self.training, self.validation, self.metrics), self.path)
