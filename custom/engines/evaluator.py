# SPDX-License-Identifier: Apache-2.0
"""One evaluator for every pretext task: it measures loss terms and other values on held-out pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import SupervisedEvaluator

from .mixed_precision import autocast, effective_amp

Measure = Callable[[dict[str, Any], dict[str, Any]], dict[str, torch.Tensor]]


class PretextEvaluator(SupervisedEvaluator):
    """MONAI's supervised evaluator, for networks and losses whose inputs and outputs are dictionaries.

    `engine.state.batch` holds the batch on the device; `engine.state.output` holds the outputs of the network, the loss
    terms and the values of the measures. `MeanOutputs` averages the scalars among them.

    Args:
        device: where a batch is computed.
        amp: compute in float16 on GPUs, in bfloat16 on CPUs that have such instructions.
        loss_function: returns named terms from (outputs, batch); None for no terms.
        measures: functions that return named values, scalars or (N,), from (outputs, batch).
        *args: as `monai.engines.SupervisedEvaluator`.
        **kwargs: as `monai.engines.SupervisedEvaluator`.
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
            for measure in self.measures:
                terms = terms | measure(outputs, batch)
        return outputs | terms
