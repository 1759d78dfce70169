# SPDX-License-Identifier: Apache-2.0
"""Measures what `custom.layers.Conv3d` saves against `torch.nn.Conv3d`: a backbone for one volume on a CPU, in float32.

python -m benchmarks.convolution --output benchmarks/results/convolution.json

Both convolutions take turns in this process; times are processor seconds of one thread.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.machine import command, machine
from benchmarks.step_time import summary
from custom.files import write_json
from custom.layers import convolution
from custom.networks import UNet3D, on_device
from custom.running import run_tool
from custom.running.arguments import listed

BACKBONES = {
    "heart": {"channels": (16, 16, 32, 64, 128), "shape": (48, 48, 48)},
    "brain": {"channels": (16, 16, 32, 64, 128), "shape": (48, 64, 48)},
    "wide": {"channels": (32, 32, 64, 128, 256), "shape": (32, 48, 40)},
}


def main(repeats: int = 9, backbones: str = "heart,brain,wide", output: str | None = None) -> None:
    """Prints the seconds with either convolution, and their ratio; with `output` also writes the JSON there.

    Args:
        repeats: number of measured repeats.
        backbones: of heart, brain and wide, separated by commas: channels and shape of the volume are stored.
        output: file for the JSON.
    """
    names = listed(backbones)
    if unknown := [name for name in names if name not in BACKBONES]:
        raise ValueError(f"backbones names {unknown[0]!r}, expected of {list(BACKBONES)}")
    torch.set_num_threads(1)
    measured = {name: BACKBONES[name] | compared(**BACKBONES[name], repeats=repeats) for name in names}
    result = {
        "benchmark": "convolution",
        "command": command("convolution"),
        "repeats": repeats,
        **measured,
        **machine(),
    }
    print(json.dumps(result, indent=2))
    if output:
        write_json(Path(output), result)


def compared(channels: tuple[int, ...], shape: tuple[int, ...], repeats: int) -> dict[str, dict[str, dict]]:
    """Seconds of torch's convolution and of ours, and their ratio, for a forward pass and for one with its backward."""
    network = on_device(UNet3D(1, channels), "cpu")
    volume = torch.randn(1, 1, *shape)

    def forward() -> None:
        with torch.inference_mode():
            network(volume)

    def forward_and_backward() -> None:
        network(volume).square().mean().backward()

    passes = {"forward": forward, "forward and backward": forward_and_backward}
    return {name: in_turn(function, repeats) for name, function in passes.items()}


def in_turn(function: Callable[[], None], repeats: int) -> dict[str, dict]:
    """Summaries of the seconds of a function with torch's convolution and with ours, after one call of each."""
    seconds: dict[str, list[float]] = {"torch": [], "ours": []}
    for _ in range(repeats + 1):
        with patch.object(convolution, "is_slow", lambda features: False):
            seconds["torch"].append(processor_seconds(function))
        seconds["ours"].append(processor_seconds(function))
    theirs, ours = (np.array(values[1:]) for values in seconds.values())
    return {"torch": summary(list(theirs)), "ours": summary(list(ours)), "torch / ours": summary(list(theirs / ours))}


def processor_seconds(function: Callable[[], None]) -> float:
    """Seconds of the processor, of all threads, that a call takes."""
    start = time.process_time()
    function()
    return time.process_time() - start


if __name__ == "__main__":
    run_tool(main)
