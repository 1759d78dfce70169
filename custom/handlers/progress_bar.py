# SPDX-License-Identifier: Apache-2.0
"""Progress of a training run."""

from __future__ import annotations

from ignite import distributed as idist
from ignite.engine import Engine, Events
from tqdm.auto import tqdm


class TrainingProgress:
    """Shows one bar over all iterations of the run, with loss terms and remaining time; on the first process only."""

    def attach(self, engine: Engine) -> None:
        """Registers on a trainer whose output holds the named terms as floats."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.EPOCH_STARTED, self.open)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self.update)
            engine.add_event_handler(Events.COMPLETED | Events.EXCEPTION_RAISED, self.close)
        self._bar: tqdm | None = None

    def open(self, engine: Engine) -> None:
        if self._bar is None:
            total = engine.state.max_epochs * engine.state.epoch_length
            self._bar = tqdm(total=total, initial=engine.state.iteration, desc="training", unit="step", mininterval=1)

    def update(self, engine: Engine) -> None:
        self._bar.set_postfix({name: f"{value:.3f}" for name, value in engine.state.output.items()}, refresh=False)
        self._bar.update()

    def close(self, engine: Engine, *error: BaseException) -> None:
        if self._bar is not None:
            self._bar.close()
        if error:
            raise error[0]
