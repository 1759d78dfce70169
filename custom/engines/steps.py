# SPDX-License-Identifier: Apache-2.0
"""What the steps of all trainers have in common: the order of the samples, the check of the loss, its average."""

from __future__ import annotations

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


def check_finite(iteration: int, batch: Mapping[str, Any], loss: torch.Tensor, values: object) -> None:
    """Stop a run whose loss is not finite. Call it before the step of the optimiser.

    Args:
        iteration: number of the iteration, for the message.
        batch: holds "index", the numbers of the samples, for the message.
        loss: scalar.
        values: the loss or all its terms as numbers, for the message.

    Raises:
        FloatingPointError: the loss is not finite; the message names the iteration and the samples.
    """
    if not loss.isfinite():
        samples = f"the samples with index {batch.get('index')}"
        raise FloatingPointError(f"the loss at iteration {iteration} must be finite, found {values} for {samples}")


def averaged(terms: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Average scalars over all processes.

    Args:
        terms: name -> scalar of this process; the names are the same in all processes.
    """
    values = {name: float(term.detach()) for name, term in terms.items()}
    if idist.get_world_size() == 1:
        return values
    total = idist.all_reduce(torch.tensor(list(values.values()), dtype=torch.float64, device=idist.device()))
    return dict(zip(values, (total / idist.get_world_size()).tolist(), strict=True))
