# SPDX-License-Identifier: Apache-2.0
"""One trainer for every pretext task: a network maps a batch to outputs, a loss maps both to named terms."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import SupervisedTrainer

from .mixed_precision import autocast, effective_amp, is_gpu
from .steps import averaged, check_finite, follow_epochs


class PretextTrainer(SupervisedTrainer):
    """MONAI's supervised trainer, for networks and losses whose inputs and outputs are dictionaries.

    Each step computes `outputs = network(batch)` and `terms = loss_function(outputs, batch)`, and minimises
    `terms["loss"]`. `engine.state.output` holds the terms as floats, averaged over the processes. The trainer attaches
    the `GlobalSampler` of its loader, see `follow_epochs`.

    Args:
        device: where a step is computed.
        amp: compute in float16 with scaled gradients on GPUs, in bfloat16 on CPUs that have such instructions.
        prepare_batch: gives the batch on the device from (batch, device, non_blocking), see `PrepareBatch`.
        *args: as `monai.engines.SupervisedTrainer`.
        **kwargs: as `monai.engines.SupervisedTrainer`.

    Raises:
        ValueError: postprocessing or accumulation_steps are set; a pretext step has neither.
        FloatingPointError: a loss is not finite; the message names the iteration, the terms and the samples.
    """

    def __init__(self, device: torch.device | str, *args: Any, amp: bool = False, **kwargs: Any) -> None:
        unused = [name for name in ("postprocessing", "accumulation_steps") if kwargs.get(name) is not None]
        if unused:
            raise ValueError(f"a pretext step has no {unused}, expected them to be left out")
        defaults = {"decollate": False, "non_blocking": is_gpu(device)}
        super().__init__(device, *args, amp=amp and is_gpu(device), **defaults | kwargs)
        self.autocast = effective_amp(device, amp)  # `amp` itself makes MONAI scale gradients, which needs a GPU
        follow_epochs(self)

    def _iteration(self, engine: Engine, batchdata: dict[str, Any]) -> dict[str, float]:
        batch = self.prepare_batch(batchdata, self.state.device, self.non_blocking, **self.to_kwargs)
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.state.device, self.autocast, **self.amp_kwargs):
            outputs = self.inferer(batch, self.network)
            terms = self.loss_function(outputs, batch)
        (terms["loss"] if self.scaler is None else self.scaler.scale(terms["loss"])).backward()
        values = averaged(terms)  # after the backward pass is queued, because reading waits for the device
        check_finite(self.state.iteration, batch, values)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        return values
