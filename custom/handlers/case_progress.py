# SPDX-License-Identifier: Apache-2.0
"""Progress of inference and evaluation."""

from __future__ import annotations

from math import ceil, prod
from typing import Any

from ignite.engine import Engine, Events
from monai.inferers import Inferer, SlidingWindowInferer
from monai.utils import ensure_tuple_rep
from torch import nn
from tqdm.auto import tqdm

DELAY = 10  # seconds; a shorter run shows nothing
FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {n:.2f}/{total} [{elapsed}<{remaining}]"


class CaseProgress:
    """Shows one bar over all cases with the remaining time, for runs of more than ten seconds.

    The bar advances with each window of a `SlidingWindowInferer`, otherwise with each case.
    """

    def attach(self, engine: Engine) -> None:
        """Registers on an evaluator with batches of one case; its network is called by its inferer."""
        engine.add_event_handler(Events.STARTED, self.open)
        engine.add_event_handler(Events.ITERATION_STARTED, self.start_case)
        engine.add_event_handler(Events.COMPLETED | Events.EXCEPTION_RAISED, self.close)

    def open(self, engine: Engine) -> None:
        total = len(engine.data_loader.dataset)
        self._bar = tqdm(total=total, desc="cases", bar_format=FORMAT, delay=DELAY, mininterval=1)
        self._windows = 1
        self._hook = engine.network.register_forward_hook(self.count)

    def start_case(self, engine: Engine) -> None:
        self._bar.update(engine.state.iteration - 1 - self._bar.n)
        self._windows = window_count(engine.inferer, tuple(engine.state.batch["image"].shape[2:]))

    def count(self, network: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> None:
        self._bar.update(len(inputs[0]) / self._windows)

    def close(self, engine: Engine, *error: BaseException) -> None:
        self._hook.remove()
        self._bar.close()
        if error:
            raise error[0]


def window_count(inferer: Inferer, shape: tuple[int, ...]) -> int:
    """The number of windows in which an inferer computes a volume, 1 unless it is a `SlidingWindowInferer`."""
    inferer = getattr(inferer, "inferer", inferer)  # of an AutocastInferer
    if not isinstance(inferer, SlidingWindowInferer):
        return 1
    sides, overlaps = (ensure_tuple_rep(values, len(shape)) for values in (inferer.roi_size, inferer.overlap))
    steps = [max(1, int(side * (1 - overlap))) for side, overlap in zip(sides, overlaps, strict=True)]
    return prod(ceil(max(0, size - side) / step) + 1 for size, side, step in zip(shape, sides, steps, strict=True))
