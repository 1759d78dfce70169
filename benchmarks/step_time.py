# SPDX-License-Identifier: Apache-2.0
"""Measures a training step against the bare backbone's forward and backward on the same shapes.

python -m benchmarks.step_time --widths paper --side 64 --repeats 7

Each repeat measures first the backbone, then each part of the step, then the whole step. The result has medians and
quartiles over the repeats; the first repeat warms up and is dropped. The multiply-adds of backbone and step are counted
too: their ratio is the floor of the measured one. Then the trainer of train.json runs for `iterations` steps. The time
between asking for a batch and having it counts as waiting for data. The time to the first iteration is that of building
the trainer with its data (volumes that stay in memory are preprocessed there), starting the loader workers and the
first step.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bundles import BUNDLES
from benchmarks.machine import command, machine
from custom.engines.mixed_precision import autocast
from custom.files import write_json
from custom.running import run_tool

CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
OVERLAYS = {"demo": (), "paper": ("paper.json",)}  # over train.json, for the widths and heads


def summary(values: list[float]) -> dict[str, float]:
    """Median and quartiles of values."""
    low, median, high = np.percentile(values, [25, 50, 75])
    return {"median": round(median, 5), "quartile_1": round(low, 5), "quartile_3": round(high, 5)}


def parsed_config(overrides: dict[str, Any], overlays: tuple[str, ...] = ()) -> ConfigParser:
    """train.json of gvsl_pretrain with overlays and overrides and without handlers."""
    parser, bundle = ConfigParser(), BUNDLES / "gvsl_pretrain"
    parser.read_config([str(bundle / "configs" / name) for name in ("train.json", *overlays)])
    parser.update({"bundle_root": str(bundle), "max_epochs": 1, "train::handlers": [], **overrides})
    return parser


def backbone_pass(trainer: Engine, views: torch.Tensor) -> None:
    """Forward and backward pass of the trainer's backbone alone; views: of both volumes, (2 * pairs, 1, *spatial)."""
    with autocast(views.device, trainer.autocast):
        bottleneck, local = trainer.network.backbone.forward_features(views)
        value = bottleneck.float().mean() + local.float().mean()
    value.backward()


def multiply_adds(parser: ConfigParser) -> dict[str, float]:
    """10^9 multiply-adds of all convolutions and matrix products: the bare backbone, the step, and their ratio.

    The ratio is what a step would take if all else were free and every multiply-add took the same time.
    """
    trainer = parser.get_parsed_content("train::trainer")
    batch = next(iter(parser.get_parsed_content("train::dataloader")))
    views = torch.cat((batch["moving_transformed"], batch["fixed"])).to(parser.get_parsed_content("device"))
    runs = {
        "bare backbone": lambda: backbone_pass(trainer, views),
        "step": lambda: trainer._iteration(trainer, batch),
    }
    counted = {}
    for name, run in runs.items():
        with FlopCounterMode(display=False) as counter:
            run()
        counted[name] = counter.get_total_flops() / 2e9
    counted["step / bare backbone"] = counted["step"] / counted["bare backbone"]
    trainer.optimizer.zero_grad(set_to_none=True)
    return {name: round(value, 3) for name, value in counted.items()}


def measure_parts(parser: ConfigParser, repeats: int, clock: str = "wall") -> dict[str, list[float]]:
    """Seconds of the backbone, the parts and the step by a clock of `CLOCKS`; `repeats` entries each."""
    now = CLOCKS[clock]
    get = parser.get_parsed_content
    device, network, loss, optimizer = get("device"), get("network"), get("loss"), get("optimizer")
    trainer, prepare = get("train::trainer"), get("train::trainer").prepare_batch
    batch = next(iter(get("train::dataloader")))
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    measured: dict[str, list[float]] = defaultdict(list)
    views = torch.cat((batch["moving_transformed"], batch["fixed"])).to(device)

    @contextlib.contextmanager
    def watch(name: str) -> Iterator[None]:
        wait()
        start = now()
        yield
        wait()
        measured[name].append(now() - start)

    def parts() -> None:
        with watch("spatial transform"):
            prepared = prepare(batch, device)
        with autocast(device, trainer.autocast):
            with watch("backbone forward"):
                features = network.backbone.forward_features(
                    torch.cat((prepared["moving_transformed"], prepared["fixed"]))
                )
            moving, fixed = zip(*(feature.chunk(2) for feature in features), strict=True)
            with watch("matching head forward"):
                match = network.matching_head(moving, fixed)
                outputs = match | {"warped": network.matching_head.warp(prepared["moving"], match)}
                if network.affine_warped:
                    outputs["affine_warped"] = network.matching_head.warp_affine(prepared["moving"], match)
            with watch("restoration head forward"):
                outputs["restored"] = network.restoration_head(moving[1])
            with watch("loss forward"):
                value = loss(outputs, prepared)["loss"]
        with watch("backward"):
            value.backward()
        with watch("optimizer"):
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def repeat(run: Callable[[], Any], name: str | None = None) -> None:
        with watch(name) if name else contextlib.nullcontext():
            run()
        optimizer.zero_grad(set_to_none=True)

    trainer.scaler = torch.amp.GradScaler(device.type) if trainer.autocast and device.type == "cuda" else None
    network.train()
    for _ in range(repeats + 1):
        repeat(lambda: backbone_pass(trainer, views), "bare backbone forward + backward")
        repeat(parts)
        repeat(lambda: trainer._iteration(trainer, batch), "step")
    return {name: seconds[1:] for name, seconds in measured.items()}


def measure_waiting(parser: ConfigParser, seconds: float = math.inf) -> dict[str, float]:
    """Runs the trainer and returns steps per second, the share of its time spent waiting for data, and the seconds from
    the start of the run to the end of the first step.

    Args:
        parser: of `parsed_config`.
        seconds: after which the trainer stops, counted from its first batch, if it has not ended.
    """
    trainer: Engine = parser.get_parsed_content("train::trainer")
    marks: dict[str, list[float]] = {"asked": [], "got": []}
    trainer.add_event_handler(Events.GET_BATCH_STARTED, lambda _: marks["asked"].append(time.perf_counter()))
    trainer.add_event_handler(Events.GET_BATCH_COMPLETED, lambda _: marks["got"].append(time.perf_counter()))
    stepped: list[float] = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda _: stepped.append(time.perf_counter()))
    start = time.perf_counter()
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda engine: engine.terminate() if time.perf_counter() - marks["got"][0] > seconds else None,
    )
    trainer.run()
    end = time.perf_counter()
    waited = sum(got - asked for asked, got in zip(marks["asked"][1:], marks["got"][1:], strict=True))
    whole = end - marks["got"][0]  # from the first batch on: starting the workers is not waiting for data
    steps = trainer.state.iteration
    measured = {"steps_per_second": steps / whole, "waiting_share": waited / whole, "first_step": stepped[0] - start}
    return {"steps": steps} | {name: round(value, 4) for name, value in measured.items()}


def main(
    widths: str = "demo",
    side: int = 48,
    batch_size: int = 1,
    repeats: int = 7,
    workers: int = 2,
    iterations: int = 10,
    dataset_dir: str | None = None,
    amp: bool | None = None,
    recompute: bool = False,
    clock: str = "wall",
    output: str | None = None,
) -> None:
    """Measures and prints; with `output` also writes the JSON there.

    Args:
        widths: "demo" for the widths, heads and loss of train.json, "paper" for those of paper.json.
        side: of the cubic crop, in voxels.
        batch_size: number of pairs.
        repeats: number of measured repeats.
        workers: number of loader workers.
        iterations: steps of the trainer that measure the time waiting for data.
        dataset_dir: folder with volumes; the phantom cohort by default.
        amp: mixed precision: float16 on GPUs (the default there), bfloat16 on CPUs that have it.
        recompute: keep less for the backward pass, see docs/gpu.md.
        clock: "wall", or on a CPU "processor": the seconds of all threads, which other work there changes less.
        output: file for the JSON.
    """
    if widths not in OVERLAYS:
        raise ValueError(f"widths is {widths!r}, expected one of {list(OVERLAYS)}")
    if clock not in CLOCKS:
        raise ValueError(f"clock is {clock!r}, expected one of {list(CLOCKS)}")
    overrides = {"patch_size": [side] * 3, "batch_size": batch_size, "spacing": [3.5] * 3, "recompute": recompute}
    overrides |= {"num_workers": workers, "iterations_per_epoch": iterations, "cache_dir": None}
    optional = {"dataset_dir": dataset_dir, "amp": amp}
    overrides |= {name: value for name, value in optional.items() if value is not None}
    parser = parsed_config(overrides, OVERLAYS[widths])
    start = time.perf_counter()
    parser.get_parsed_content("train::trainer")
    built = time.perf_counter() - start
    seconds = measure_parts(parser, repeats, clock)
    arithmetic = multiply_adds(parser)
    trainer = measure_waiting(parser)
    trainer["seconds_to_first_iteration"] = round(built + trainer.pop("first_step"), 4)
    base, step = (np.array(seconds[name]) for name in ("bare backbone forward + backward", "step"))
    result = {
        "benchmark": "step_time",
        "command": command("step_time"),
        "widths": parser.get_parsed_content("channels"),
        "shape": [batch_size, 1, side, side, side],
        "mixed_precision": parser.get_parsed_content("train::trainer").autocast,
        "repeats": repeats,
        "clock": clock,
        "step / bare backbone": summary(list(step / base)),
        "multiply-adds, 10^9": arithmetic,
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "trainer": trainer,
        **machine(),
    }
    print(json.dumps(result, indent=2))
    if output:
        write_json(Path(output), result)


if __name__ == "__main__":
    run_tool(main)
