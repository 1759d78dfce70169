# SPDX-License-Identifier: Apache-2.0
"""One evaluator for every pretext task: loss terms and measures on held-out pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import SupervisedEvaluator

from .mixed_precision import autocast, effective_amp

Measure = Callable[[dict[str, Any], dict[str, Any]], dict[str, torch.Tensor]]


class PretextEvaluator(SupervisedEvaluator):
    """Runs a pretext network on a held-out batch and measures it.

    `engine.state.output` holds the network's outputs, the loss terms (where a loss is given) and what each measure
    returns; `engine.state.batch` the batch on the device. `MeanOutputs` averages the scalars among them.

    Args:
        loss_function: gives named terms from (outputs, batch), or None.
        measures: functions of (outputs, batch) that give named values, scalars or (N,).
        Others as `monai.engines.SupervisedEvaluator`, the evaluator that MonaiAlgo wants.
    """

    def __init__(
        self,
        device: torch.device | str,
        *args: Any,
        amp: bool = False,
        loss_function: Callable[..., dict[str, torch.Tensor]] | None = None,
        measures: Sequence[Measure] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(device, *args, amp=effective_amp(device, amp), **{"decollate": False, **kwargs})
        self.loss_function = loss_function
        self.measures = tuple(measures)

    def _iteration(self, engine: Engine, batchdata: dict[str, Any]) -> dict[str, torch.Tensor]:
        batch = self.prepare_batch(batchdata, self.state.device, self.non_blocking, **self.to_kwargs)
        self.state.batch = batch
        with self.mode(self.network), autocast(self.state.device, self.amp, **self.amp_kwargs):
            outputs = self.inferer(batch, self.network)
            terms = {} if self.loss_function is None else self.loss_function(outputs, batch)
        with torch.no_grad():
            measured = [measure(outputs, batch) for measure in self.measures]
        return outputs | terms | {name: value for values in measured for name, value in values.items()}
