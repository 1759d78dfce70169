# SPDX-License-Identifier: Apache-2.0
"""A run that resumes with other settings has these, and not those of its checkpoint."""

from __future__ import annotations

import pytest
import torch
from monai.optimizers import WarmupCosineSchedule
from torch.optim.lr_scheduler import ConstantLR

from custom.handlers.kept_settings import keep_settings


def made(rates=(0.1, 1.0), length=20, warmup=4, decay=0.0, schedule="cosine"):
    """Optimiser of two groups and its schedule, as a config makes them."""
    torch.manual_seed(0)
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))], "lr": rate} for rate in rates]
    optimizer = torch.optim.Adam(groups, weight_decay=decay)
    if schedule == "constant":
        return optimizer, ConstantLR(optimizer, factor=1.0)
    return optimizer, WarmupCosineSchedule(optimizer, warmup_steps=warmup, t_total=length, cycles=0.5)


def trained(optimizer, schedule, steps):
    """The rates of each step, after it."""
    rates = []
    for _ in range(steps):
        optimizer.zero_grad()
        sum(group["params"][0].square().sum() for group in optimizer.param_groups).backward()
        optimizer.step()
        schedule.step()
        rates.append([group["lr"] for group in optimizer.param_groups])
    return rates


def resumed(state, **settings):
    """Optimiser and schedule of other settings at the position of a state."""
    objects = made(**settings)
    restore = keep_settings(objects)
    for one, own in zip(objects, state, strict=True):
        one.load_state_dict(own)
    restore()
    return objects


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_equal_settings_go_on_with_the_same_numbers(schedule):
    uninterrupted = trained(*made(schedule=schedule), 12)
    first = made(schedule=schedule)
    rates = trained(*first, 7)
    second = resumed([one.state_dict() for one in first], schedule=schedule)
    assert rates + trained(*second, 5) == uninterrupted


def test_more_epochs_lengthen_the_schedule():
    first = made(length=20)
    trained(*first, 20)
    assert first[0].param_groups[0]["lr"] == 0
    optimizer, schedule = resumed([one.state_dict() for one in first], length=40)
    expected = trained(*made(length=40), 40)
    assert [group["lr"] for group in optimizer.param_groups] == expected[19]
    assert trained(optimizer, schedule, 20) == expected[20:]


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_changed_rates_and_parameters_are_used(schedule):
    first = made(schedule=schedule)
    trained(*first, 7)
    settings = {"rates": (0.05, 2.0), "decay": 0.3, "schedule": schedule}
    optimizer, second = resumed([one.state_dict() for one in first], **settings)
    expected = trained(*made(**settings), 12)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(expected[6])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.3]
    for rates, wanted in zip(trained(optimizer, second, 5), expected[7:], strict=True):
        assert rates == pytest.approx(wanted)
    assert optimizer.state_dict()["state"][0]["step"] == 12  # the state went on
