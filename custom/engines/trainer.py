# SPDX-License-Identifier: Apache-2.0
"""One trainer for every pretext task: a network maps a batch to outputs, a loss maps both to named terms."""

from __future__ import annotations

from typing import Any

import torch
from ignite import distributed as idist
from ignite.engine import Engine
from monai.engines import SupervisedTrainer

from ..data import GlobalSampler
from .mixed_precision import autocast, effective_amp, is_gpu


class PretextTrainer(SupervisedTrainer):
    """MONAI's supervised trainer, for networks and losses that speak in dictionaries.

    Each step computes `outputs = network(batch)` and `terms = loss_function(outputs, batch)`, and descends on
    `terms["loss"]`. `engine.state.output` holds the terms as floats, averaged over the processes. Arguments are those
    of `monai.engines.SupervisedTrainer`; `prepare_batch(batch, device, non_blocking)` gives the batch on the device
    (see `PrepareBatch`). With `amp` a step is computed in float16 with scaled gradients on GPUs, in bfloat16 on CPUs
    that have it. A `GlobalSampler` of the loader follows the epochs, also when a run resumes.

    Raises:
        ValueError: postprocessing or accumulation_steps are given; a pretext step has neither.
        FloatingPointError: when the loss is not finite; names the iteration, the terms and the pairs.
    """

    def __init__(self, device: torch.device | str, *args: Any, amp: bool = False, **kwargs: Any) -> None:
        unused = [name for name in ("postprocessing", "accumulation_steps") if kwargs.get(name) is not None]
        if unused:
            raise ValueError(f"a pretext step has no {unused}, expected them to be left out")
        super().__init__(device, *args, amp=amp and is_gpu(device), **{"decollate": False, **kwargs})
        self.autocast = effective_amp(device, amp)  # `amp` itself makes MONAI scale gradients, which needs a GPU
        sampler = getattr(self.data_loader, "sampler", None)
        if isinstance(sampler, GlobalSampler):
            sampler.attach(self)

    def _iteration(self, engine: Engine, batchdata: dict[str, Any]) -> dict[str, float]:
        batch = self.prepare_batch(batchdata, self.state.device, self.non_blocking, **self.to_kwargs)
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.state.device, self.autocast, **self.amp_kwargs):
            outputs = self.inferer(batch, self.network)
            terms = self.loss_function(outputs, batch)
        named = _averaged({name: float(term.detach()) for name, term in terms.items()})
        if not terms["loss"].isfinite():
            found = f"{named} for the pairs with index {batch.get('index')}"
            raise FloatingPointError(f"the loss at iteration {self.state.iteration} must be finite, found {found}")
        if self.scaler is None:
            terms["loss"].backward()
            self.optimizer.step()
        else:
            self.scaler.scale(terms["loss"]).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        return named


def _averaged(terms: dict[str, float]) -> dict[str, float]:
    """The terms averaged over all processes."""
    if idist.get_world_size() == 1:
        return terms
    total = idist.all_reduce(torch.tensor(list(terms.values()), dtype=torch.float64, device=idist.device()))
    return dict(zip(terms, (total / idist.get_world_size()).tolist(), strict=True))
