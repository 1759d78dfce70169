# SPDX-License-Identifier: Apache-2.0
"""Averages of all values that an evaluator measures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events


class MeanOutputs:
    """Puts the mean of every measured value of an epoch into `engine.state.metrics`, under its own name.

    A value is a tensor with at most one axis in `engine.state.output`: (N,), one entry for each pair, or a scalar that
    is weighted by the number of pairs in the batch. NaN entries (a structure that the pair does not have) are left out
    of the mean. The mean is over all processes; a process need not measure every value.
    """

    def attach(self, engine: Engine) -> None:
        """Registers on an evaluator; attach it before the handlers that read the metrics."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.average)

    def start(self, engine: Engine) -> None:
        self._totals: dict[str, torch.Tensor] = defaultdict(_zero)

    def collect(self, engine: Engine) -> None:
        for name, value in engine.state.output.items():
            if torch.is_tensor(value) and value.ndim <= 1:
                existing = value[~value.isnan()].detach().double().cpu()
                weight = 1 if value.ndim == 1 else _pairs(engine.state.batch)
                self._totals[name] += weight * torch.stack((existing.sum(), existing.new_tensor(existing.numel())))

    def average(self, engine: Engine) -> None:
        names = list(self._totals)
        if idist.get_world_size() > 1:  # the same names in the same order everywhere, or all_reduce would not match
            names = list(dict.fromkeys(name for gathered in idist.all_gather(names) for name in gathered))
        if not names:
            return
        totals = torch.stack([self._totals[name] for name in names])
        if idist.get_world_size() > 1:
            totals = idist.all_reduce(totals.to(idist.device())).cpu()
        engine.state.metrics.update(zip(names, (totals[:, 0] / totals[:, 1]).tolist(), strict=True))


def _zero() -> torch.Tensor:
    """Sum and number of values."""
    return torch.zeros(2, dtype=torch.float64)


def _pairs(batch: Mapping[str, Any]) -> int:
    """Number of pairs in a batch: the length of its first tensor that has an axis."""
    lengths = [len(value) for value in batch.values() if torch.is_tensor(value) and value.ndim]
    if not lengths:
        raise ValueError(f"a batch must hold tensors with an axis of pairs, got the keys {sorted(batch)}")
    return lengths[0]
