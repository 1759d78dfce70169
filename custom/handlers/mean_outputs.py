# SPDX-License-Identifier: Apache-2.0
"""Averages of everything that an evaluator measures."""

from __future__ import annotations

from collections import defaultdict

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events


class MeanOutputs:
    """Puts the mean of every measured value of an epoch into `engine.state.metrics`, under its own name.

    A value is a tensor of at most one axis in `engine.state.output`: a scalar, or (N,) one per pair. NaN entries (a
    structure that is not there) are left out of the mean. Sums run over all processes.
    """

    def attach(self, engine: Engine) -> None:
        """Registers on an evaluator; attach it before the handlers that read the metrics."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.average)

    def start(self, engine: Engine) -> None:
        self._values: dict[str, list[torch.Tensor]] = defaultdict(list)

    def collect(self, engine: Engine) -> None:
        for name, value in engine.state.output.items():
            if torch.is_tensor(value) and value.ndim <= 1:
                self._values[name].append(value.detach().double().cpu().reshape(-1))

    def average(self, engine: Engine) -> None:
        for name, chunks in self._values.items():
            values = torch.cat(chunks)
            values = values[~values.isnan()]
            total = torch.stack((values.sum(), torch.tensor(float(len(values)), dtype=torch.float64)))
            if idist.get_world_size() > 1:
                total = idist.all_reduce(total.to(idist.device())).cpu()
            engine.state.metrics[name] = float(total[0] / total[1])
