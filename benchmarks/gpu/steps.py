# SPDX-License-Identifier: Apache-2.0
"""Time and memory of the training step of a bundle's train.json and paper.json, with one setting changed at a time."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.fake_cuda.trace import Step, fake_batch, read
from benchmarks.machine import peak_memory, reset_peak_memory
from custom.files import write_json
from custom.running import run_tool

TINY = {"patch_size": [16, 16, 16], "channels": [8, 8, 16]}


@dataclass(frozen=True)
class Variant:
    """Settings of a step; those of the first are the defaults of the configs on a GPU."""

    dtype: str | None = "float16"
    channels_last: bool = False
    benchmark: bool = True
    compiled: bool = False


VARIANTS = {
    "default: float16, channels first, cudnn.benchmark": Variant(),
    "float32": Variant(dtype=None),
    "bfloat16": Variant(dtype="bfloat16"),
    "channels_last_3d": Variant(channels_last=True),
    "without cudnn.benchmark": Variant(benchmark=False),
    "torch.compile": Variant(compiled=True),
}


def main(bundle: str, output: str, tiny: bool = False) -> None:
    """Measures the variants of train.json, then those of paper.json, and writes the file after each.

    Args:
        bundle: folder in bundles/.
        output: the JSON file.
        tiny: tiny volumes and networks, two steps.
    """
    content: dict[str, dict[str, Any]] = {}
    for name, overlays in (("train.json", ()), ("paper.json", ("paper.json",))):
        content[name] = {}
        for label, variant in VARIANTS.items():
            if variant.compiled and tiny:
                continue  # compiling takes a minute on a CPU
            try:
                content[name][label] = measure(bundle, overlays, variant, tiny)
            except Exception as error:  # memory that does not suffice, a compiler that fails: the others are measured
                content[name][label] = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
            print(f"{bundle}, {name}, {label}: {content[name][label]}", flush=True)
            gc.collect()
            torch.cuda.empty_cache()
            write_json(Path(output), content, "the steps")


def measure(bundle: str, overlays: tuple[str, ...], variant: Variant, tiny: bool) -> dict[str, Any]:
    """Median seconds of a step on random volumes, peak memory in GiB with weights, gradients and optimiser, precision.

    A CPU computes in float32 whatever the variant says.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    amp = variant.dtype is not None and device.type == "cuda"
    overrides = {"device": f"$torch.device('{device.type}')", **(TINY if tiny else {})}
    if amp:
        overrides["train::trainer::amp_kwargs"] = {"dtype": f"$torch.{variant.dtype}"}
    if bundle == "gvsl_seg_brain":
        overrides["loss::weight"] = None  # it is made of the data
    torch.backends.cudnn.benchmark = variant.benchmark
    torch.manual_seed(0)
    reset_peak_memory()
    with torch.device(device):
        parser = read(Step(bundle, overlays, overrides, amp))
        trainer = parser.get_parsed_content("train::trainer")
        batch = fill(fake_batch(parser))
    trainer.state.device = device
    trainer.scaler = torch.amp.GradScaler("cuda") if amp else None
    trainer.network.train()
    if variant.channels_last:
        trainer.network.to(memory_format=torch.channels_last_3d)
    if variant.compiled:
        trainer.network.compile()
    seconds = [timed_step(trainer, batch) for _ in range(3 if tiny else 13)][1 if tiny else 3 :]
    measured = {"seconds": median(seconds), "peak_gib": round(peak_memory() / 2**30, 2)}
    return measured | {"precision": variant.dtype if amp else "float32"}


def fill(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The batch with random volumes in [0, 1] and with labels 0 and 1."""
    for name, tensor in batch.items():
        if name == "label":
            tensor.random_(0, 2)
        elif tensor.is_floating_point():
            tensor.uniform_()
    return batch


def timed_step(trainer: Any, batch: dict[str, torch.Tensor]) -> float:
    """Seconds of a step until the device is done."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    start = time.perf_counter()
    trainer._iteration(trainer, dict(batch))
    wait()
    return round(time.perf_counter() - start, 5)


if __name__ == "__main__":
    run_tool(main)
