# SPDX-License-Identifier: Apache-2.0
"""What the steps of all trainers have in common: the order of the samples, the check of the loss, its average."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from ignite import distributed as idist
from ignite.engine import Engine

from ..data import GlobalSampler


def follow_epochs(trainer: Engine) -> None:
    """Attach the `GlobalSampler` of the trainer's loader to the trainer, also for a run that resumes.

    Args:
        trainer: with the attribute `data_loader`; another sampler, or none, stays as it is.
    """
    sampler = getattr(trainer.data_loader, "sampler", None)
    if isinstance(sampler, GlobalSampler):
        sampler.attach(trainer)


def check_finite(iteration: int, batch: Mapping[str, Any], values: Mapping[str, float]) -> None:
    """Stop a run whose loss is not finite. Call it before the step of the optimiser.

    Args:
        iteration: number of the iteration, for the message.
        batch: holds "index", the numbers of the samples, for the message.
        values: "loss" and, for the message, its terms.

    Raises:
        FloatingPointError: the loss is not finite; the message names the iteration and the samples.
    """
    if not math.isfinite(values["loss"]):
        samples = f"the samples with index {batch.get('index')}"
        raise FloatingPointError(f"the loss at iteration {iteration} must be finite, found {values} for {samples}")


def averaged(terms: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Average scalars over all processes; they are read from the device together, because each reading waits for it.

    Args:
        terms: name -> scalar of this process; the names are the same in all processes.
    """
    values = torch.stack([term.detach() for term in terms.values()]).cpu().double()
    if idist.get_world_size() > 1:
        values = idist.all_reduce(values.to(idist.device())).cpu() / idist.get_world_size()
    return dict(zip(terms, values.tolist(), strict=True))
