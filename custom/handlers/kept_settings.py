# SPDX-License-Identifier: Apache-2.0
"""What the config says of optimisers and learning rates, which loading a checkpoint would overwrite."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

POSITION = ("last_epoch", "_step_count", "_last_lr", "_get_lr_called_within_step", "_is_initial", "lr_lambdas")


def keep_settings(objects: Iterable[Any]) -> Callable[[], None]:
    """Remembers the settings of the optimisers and schedules among some objects.

    A checkpoint holds the settings with which its run began, beside the state. A run may resume with others: with more
    epochs, or with what `accept_changes` names.

    Args:
        objects: as they are made from the config; others than optimisers and schedules are left alone.

    Returns:
        Function to call after the checkpoint was loaded. It restores the parameters of each optimiser (weight decay,
        ...) and the schedules' base rates; of a `LambdaLR`, such as MONAI's `WarmupCosineSchedule`, also its length and
        form. The learning rates are then those of the schedule at the iteration of the checkpoint.
    """
    found = list(objects)
    optimizers = [one for one in found if isinstance(one, Optimizer)]
    schedules = [one for one in found if isinstance(one, LRScheduler)]
    of_groups = [[parameters(group) for group in optimizer.param_groups] for optimizer in optimizers]
    of_schedules = [settings_of(schedule) for schedule in schedules]

    def restore() -> None:
        for optimizer, own in zip(optimizers, of_groups, strict=True):
            for group, configured in zip(optimizer.param_groups, own, strict=True):
                group.update(configured)
        for schedule, own in zip(schedules, of_schedules, strict=True):
            loaded = schedule.base_lrs
            vars(schedule).update(own)
            set_rates(schedule, loaded)

    return restore


def parameters(group: dict[str, Any]) -> dict[str, Any]:
    """The settings of a parameter group but the learning rate."""
    return {name: value for name, value in group.items() if name not in ("params", "lr")}


def settings_of(schedule: LRScheduler) -> dict[str, Any]:
    """The base rates of a schedule; of a `LambdaLR` all that is no position."""
    if not isinstance(schedule, LambdaLR):
        return {"base_lrs": list(schedule.base_lrs)}
    return {name: value for name, value in schedule.state_dict().items() if name not in POSITION}


def set_rates(schedule: LRScheduler, loaded: list[float]) -> None:
    """Sets the learning rates to those of the schedule at its position.

    Args:
        schedule: with its own base rates.
        loaded: the base rates of the checkpoint, of which the present learning rates are multiples.
    """
    groups = schedule.optimizer.param_groups
    if isinstance(schedule, LambdaLR):
        factors = [function(schedule.last_epoch) for function in schedule.lr_lambdas]
    elif schedule.base_lrs == loaded:
        return
    else:
        factors = [group["lr"] / base if base else 1.0 for group, base in zip(groups, loaded, strict=True)]
    schedule._last_lr = [base * factor for base, factor in zip(schedule.base_lrs, factors, strict=True)]
    for group, rate in zip(groups, schedule._last_lr, strict=True):
        group["lr"] = rate
