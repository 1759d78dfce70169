# SPDX-License-Identifier: Apache-2.0
"""Which operators a call spends its time in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.profiler import ProfilerActivity, profile


def operator_shares(call: Callable[[], Any], listed: int = 8) -> dict[str, Any]:
    """Profile a call on the CPU.

    Args:
        call: without arguments; call it before once or twice, so that nothing is made for the first time.
        listed: number of operators to list.

    Returns:
        "not convolution": share of the time that is in no convolution, forwards or backwards.
        "operators": name of each of the costliest other operators -> its share of the time.
    """
    with profile(activities=[ProfilerActivity.CPU]) as measured:
        call()
    spent = {event.key: event.self_cpu_time_total for event in measured.key_averages()}
    whole = sum(spent.values())
    others = {name: time / whole for name, time in spent.items() if "conv" not in name.lower()}
    costliest = sorted(others, key=others.__getitem__, reverse=True)[:listed]
    return {
        "not convolution": round(sum(others.values()), 4),
        "operators": {name: round(others[name], 4) for name in costliest},
    }
