# SPDX-License-Identifier: Apache-2.0
"""Measures our training step of paper.json and its parts against the authors' code, on one thread of the CPU.

python -m benchmarks.against_authors --authors FOLDER --output benchmarks/results/against_authors.json

FOLDER is a checkout of github.com/YutingHe-list/GVSL; benchmarks/against_authors.md has the method.
"""

from __future__ import annotations

import gc
import json
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from ctypes import CDLL
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.authors_code import TheirTraining, on_cpu
from benchmarks.machine import command, machine, peak_main_memory, reset_peak_memory
from benchmarks.operators import operator_shares
from benchmarks.step_time import parsed_config, summary
from custom.files import write_json
from custom.layers import warp
from custom.losses import LocalNCCLoss
from custom.running import run_tool
from custom.transforms import RandBezierIntensity, RandInPainting, RandLocalShuffle
from custom.weights.authors import from_authors

STEP = "step with transforms and Adam"
STORED = "recompute false"
LEAST_SECONDS = 0.1  # of a measurement: short calls are repeated
Call = Callable[[], Any]


class OurTraining:
    """The training of gvsl_pretrain, with its trainer and transforms, on one pair of volumes.

    Args:
        moving: intensities in [0, 1], (1, 1, *spatial), as `fixed`.
        overlays: configs over train.json.
        overrides: config keys and values.
    """

    def __init__(
        self, moving: torch.Tensor, fixed: torch.Tensor, overlays: tuple[str, ...] = ("paper.json",), **overrides: Any
    ) -> None:
        cases = [{"image": name, "subject": name} for name in "ab"]
        data = {"data": {"training": cases, "validation": []}, "train::dataloader": "$[None]"}
        one_pair = {"device": "cpu", "patch_size": list(moving.shape[2:]), "batch_size": 1}
        parser = parsed_config(data | one_pair | overrides, overlays)
        self.trainer = parser.get_parsed_content("train::trainer")
        self.network, self.optimizer = self.trainer.network, self.trainer.optimizer
        self.pair_transform = parser.get_parsed_content("train::pair_transform").set_random_state(0)
        self.spatial_transform = self.trainer.prepare_batch.transform
        self.pair = {"moving": moving[0], "fixed": fixed[0]}

    def batch(self) -> dict[str, torch.Tensor]:
        """The pair after the transforms of the loader."""
        volumes = {name: volume[None] for name, volume in self.pair_transform(self.pair).items()}
        return volumes | {"seed": torch.randint(2**62, (1,)), "index": torch.zeros(1, dtype=torch.int64)}

    def step(self) -> None:
        """A step with the transforms of the loader, without reading the volumes."""
        self.trainer._iteration(self.trainer, self.batch())


def textured(side: int, seed: int) -> torch.Tensor:
    """A random volume in [0, 1] with structures of four voxels, (1, 1, side, side, side)."""
    noise = torch.rand(1, 1, *[side // 4] * 3, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, size=[side] * 3, mode="trilinear")


def parts(theirs: TheirTraining, ours: OurTraining, stored: OurTraining, side: int) -> dict[str, tuple[Call, Call]]:
    """Name of each part -> their call and ours on the same volumes; `stored` is our training without recompute."""
    moving, fixed = textured(side, 0), textured(side, 1)
    spatial, appearance = theirs.trainer.spatial_aug, theirs.trainer.style_aug
    shuffle, bezier, paint = (kind(prob=1.0) for kind in (RandLocalShuffle, RandBezierIntensity, RandInPainting))
    volume, batch, correlation = moving[0], ours.batch(), LocalNCCLoss()
    displacement = 2 * torch.randn(1, 3, side, side, side, generator=torch.Generator().manual_seed(2))
    features = moving.expand(-1, 32, -1, -1, -1).contiguous()

    def their_transform() -> None:
        matrix, field = spatial.rand_coords(moving.shape[2:])
        for image in (moving, moving, fixed):
            spatial.augment_spatial(image, matrix, field)

    def both_passes(function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> Call:
        return lambda: function(*(tensor.detach().requires_grad_() for tensor in inputs)).sum().backward()

    return {
        STEP: (theirs.step, ours.step),
        f"{STEP}, {STORED}": (theirs.step, stored.step),
        "NCC, forward and backward": (
            both_passes(lambda warped: theirs.losses.ncc_loss(warped, fixed), moving),
            both_passes(lambda warped: correlation(warped, fixed), moving),
        ),
        "warp of 1 channel, forward and backward": (
            both_passes(lambda field: theirs.trainer.stn(moving, field), displacement),
            both_passes(lambda field: warp(moving, field), displacement),
        ),
        "warp of 32 channels, forward and backward": (
            both_passes(theirs.trainer.stn, features, displacement),
            both_passes(warp, features, displacement),
        ),
        "affine and elastic transform, 3 volumes": (
            their_transform,
            lambda: ours.spatial_transform(batch | {"seed": torch.randint(2**62, (1,))}),
        ),
        "Bézier curve": (lambda: appearance.nonlinear_transformation(volume.numpy(), 1.0), lambda: bezier(volume)),
        "local shuffling": (lambda: appearance.local_pixel_shuffling(volume.numpy(), 1.0), lambda: shuffle(volume)),
        "in-painting": (lambda: appearance.image_in_painting(volume.numpy().copy()), lambda: paint(volume)),
    }


def measured_parts(calls: dict[str, tuple[Call, Call]], repeats: int) -> dict[str, dict[str, Any]]:
    """Milliseconds of the processor of each part, theirs and ours by turns, and the ratios of neighbours."""
    measured: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for repeat in range(repeats + 1):
        for name, (theirs, ours) in calls.items():
            if repeat % 2:
                measured[name].append((milliseconds(theirs), milliseconds(ours)))
            else:
                measured[name].append((milliseconds(ours), milliseconds(theirs))[::-1])
    result = {}
    for name, pairs in measured.items():
        theirs, ours = zip(*pairs[1:], strict=True)  # the first warms up
        ratios = [their / our for their, our in pairs[1:]]
        result[name] = {
            "theirs_ms": summary(theirs),
            "ours_ms": summary(ours),
            "theirs / ours": summary(ratios),
        }
    return result


def milliseconds(call: Call) -> float:
    """Milliseconds of the processor that a call takes, the mean of as many calls as take 0.1 s."""
    count, start = 0, time.process_time()
    with on_cpu():
        while not count or time.process_time() - start < LEAST_SECONDS:
            call()
            count += 1
    return 1000 * (time.process_time() - start) / count


def memory_of_step(folder: str, side: int, **overrides: Any) -> dict[str, float]:
    """GiB of a step at its peak above the process with weights and Adam's state, which is alone in its process.

    Args:
        folder: the checkout of the authors' code for their step, "" for ours.
        side: of the volumes, in voxels.
        overrides: of paper.json, for our step.
    """
    volumes = textured(side, 0), textured(side, 1)
    training = TheirTraining(Path(folder), *volumes) if folder else OurTraining(*volumes, **overrides)
    for _ in range(2):
        training.step()
    training.optimizer.zero_grad(set_to_none=True)
    gc.collect()
    CDLL(None).malloc_trim(0)  # freed memory that the allocator keeps would not count
    reset_peak_memory()
    before = peak_main_memory()
    training.step()
    values = sum(parameter.numel() for parameter in training.network.parameters())
    return {"step_gib": round((peak_main_memory() - before) / 2**30, 3), "parameters": values}


def alone(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """The result of a function in a new process with one thread."""
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        return pool.submit(function, *arguments, **named).result()


def shares(side: int) -> dict[str, Any]:
    """The operators of our step at the widths of the paper and at those of train.json, see `operator_shares`."""
    found = {}
    for name, overlays in (("paper.json", ("paper.json",)), ("train.json", ())):
        training = OurTraining(textured(side, 0), textured(side, 1), overlays)
        for _ in range(2):
            training.step()
        found[name] = operator_shares(training.step)
    return found


def table(result: dict[str, Any]) -> str:
    """The parts of the result as a Markdown table."""
    lines = ["| part | theirs, ms | ours, ms | theirs / ours (quartiles) |", "|---|---|---|---|"]
    for name, part in result["parts"].items():
        ratio = part["theirs / ours"]
        times = (f"{part[side]['median']:.3g}" for side in ("theirs_ms", "ours_ms"))
        quartiles = f"{ratio['quartile_1']:.3g} to {ratio['quartile_3']:.3g}"
        lines.append(" | ".join([f"| {name}", *times, f"{ratio['median']:.3g} ({quartiles}) |"]))
    return "\n".join(lines)


def main(authors: str, side: int = 48, repeats: int = 7, output: str | None = None) -> None:
    """Measures and prints; with `output` also writes the JSON there.

    Args:
        authors: folder with a checkout of the authors' repository.
        side: of the cubic volumes, in voxels.
        repeats: number of measured repeats of each part.
        output: file for the JSON.
    """
    memory = {
        "theirs": alone(memory_of_step, authors, side),
        "ours": alone(memory_of_step, "", side),
        f"ours, {STORED}": alone(memory_of_step, "", side, recompute=False),
    }
    torch.set_num_threads(1)
    torch.manual_seed(0)
    volumes = textured(side, 0), textured(side, 1)
    theirs = TheirTraining(Path(authors), *volumes)
    ours, stored = OurTraining(*volumes), OurTraining(*volumes, recompute=False)
    backbone, heads, _ = from_authors(theirs.network.state_dict(), authors)
    for training in (ours, stored):
        training.network.load_state_dict(heads | {f"backbone.{name}": tensor for name, tensor in backbone.items()})
    result = {
        "benchmark": "against_authors",
        "command": command("against_authors"),
        "shape": [1, 1, side, side, side],
        "repeats": repeats,
        "parts": measured_parts(parts(theirs, ours, stored, side), repeats),
        "memory": memory,
        "profile": shares(side),
        **machine(),
    }
    print(json.dumps(result, indent=2, ensure_ascii=False), table(result), sep="\n")
    if output:
        write_json(Path(output), result)


if __name__ == "__main__":
    run_tool(main)
