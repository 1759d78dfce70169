# SPDX-License-Identifier: Apache-2.0
"""Measures memory and time of the segmentation of one large volume, beside what a user might take instead.

python -m benchmarks.inference --side 512 --depth 400 --classes 8

A process each computes the same volume on one thread of the CPU, with the weights of a bundle:
- "network": the sliding windows alone, on the volume that is already on the grid of the network;
- "ours": inference.json, from reading the file to writing the labels;
- "stock": the same network and windows with MONAI's own components: LoadImaged, Spacingd, SlidingWindowInferer,
  softmax, Invertd, AsDiscreted, SaveImaged;
- "nnunet": the predictor of nnU-Net v2 with the same network, windows and grid, from file to file, without mirroring
  (extra `nnunet`).
Each process loads the network and computes some windows first. Peak memory and time count from there. A process that
needs more memory than the limit ends without a result, and the JSON says how it ended.
"""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigWorkflow
from monai.data import list_data_collate
from scipy.ndimage import zoom
from torch import nn

from benchmarks.bundles import BUNDLES, ROOT, workflow
from benchmarks.machine import command, machine, peak_main_memory, reset_peak_memory
from custom.files import read_json, write_json
from custom.phantoms.brain import make_brain_subject
from custom.phantoms.cardiac import make_cardiac_subject
from custom.running import run_tool
from custom.volumes import write_volume

TASKS = {8: ("gvsl_seg_heart", make_cardiac_subject), 29: ("gvsl_seg_brain", make_brain_subject)}
RESULTS = Path(__file__).resolve().parent / "results"
OUT_OF_MEMORY = re.compile(r"MemoryError|allocate|bad_alloc|not enough memory", re.IGNORECASE)
RANDOM_NETWORK = {"_target_": "custom.networks.on_device", "network": "@network_def", "device": "@device"}


def write_phantom(path: Path, classes: int, shape: tuple[int, int, int], voxel: tuple[float, float, float]) -> None:
    """Writes a phantom, enlarged to a shape by linear interpolation, as int16 with voxels of a size in mm."""
    image, _, affine = TASKS[classes][1](0)
    scale = np.array(image.shape) / shape
    enlarged = zoom(image, 1 / scale, output=np.int16, order=1, mode="nearest", grid_mode=True)
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    sized = np.eye(4)
    sized[:3, :3] = directions * voxel
    write_volume(path, enlarged, sized)


def stock_config() -> dict[str, Any]:
    """What takes the place of our components in inference.json; the file has classes instead of label values."""
    axes = [["L", "R"], ["P", "A"], ["I", "S"]]
    before = [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "Orientationd", "keys": "image", "axcodes": "@orientation", "labels": axes},
        {"_target_": "Spacingd", "keys": "image", "pixdim": "@spacing", "mode": "bilinear"},
        "@intensity",
    ]
    inverse = {"transform": "@preprocessing", "orig_keys": "image", "nearest_interp": False}
    files = {"output_dir": "@output_dir", "output_postfix": "label", "separate_folder": False, "print_log": False}
    after = [
        {"_target_": "Activationsd", "keys": "pred", "softmax": True},
        {"_target_": "Invertd", "keys": "pred"} | inverse,
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        {"_target_": "SaveImaged", "keys": "pred", "output_dtype": "$__import__('numpy').uint8"} | files,
    ]
    chains = {"preprocessing": before, "postprocessing": after}
    return {key: {"_target_": "Compose", "transforms": steps} for key, steps in chains.items()} | {"handlers": []}


class Stopwatch:
    """Seconds of the clock and of the processor, summed over its blocks."""

    def __init__(self) -> None:
        self.clock = self.processor = 0.0

    def start(self, *_: Any) -> None:
        self.clock -= time.perf_counter()
        self.processor -= time.process_time()

    def stop(self, *_: Any) -> None:
        self.clock += time.perf_counter()
        self.processor += time.process_time()

    def seconds(self) -> dict[str, float]:
        return {"clock": round(self.clock, 2), "processor": round(self.processor, 2)}


def measure(
    kind: str, volume: str, classes: int, output: str, limit_gb: float, channels: list[int] | None = None
) -> None:
    """Measures one kind in this process and writes it as JSON.

    Args:
        kind: "ours", "stock", "nnunet" or "network".
        volume: file of the volume.
        classes: 8 for the heart, 29 for the brain.
        output: folder for the labels and KIND.json.
        limit_gb: of the memory of this process, 10^9 bytes.
        channels: of a network with random weights, instead of the bundle's.

    Raises:
        MemoryError: (or an error of torch) more memory is needed.
    """
    torch.set_num_threads(1)
    limit = int(limit_gb * 1e9)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    changes = {"dataset_dir": volume, "output_dir": f"{output}/{kind}", "device": "cpu"}
    if channels:
        torch.manual_seed(0)
        changes |= {"channels": channels, "network": RANDOM_NETWORK}
    if kind == "stock":
        changes |= stock_config()
    run = workflow(TASKS[classes][0], ["inference.json"], changes, "infer")
    network, inferer = run.parser.get_parsed_content("network").eval(), run.inferer
    predict = run.run
    with torch.inference_mode():
        inferer(torch.zeros(inferer.sw_batch_size, 1, *inferer.roi_size), network)
        if kind == "network":
            predict = partial(inferer, list_data_collate([run.dataset[0]])["image"], network)
        elif kind == "nnunet":
            predict = nnunet_prediction(run, network, classes, volume, output)
    whole, passes = Stopwatch(), Stopwatch()
    network.register_forward_pre_hook(passes.start)
    network.register_forward_hook(passes.stop)
    reset_peak_memory()
    before = peak_main_memory()
    whole.start()
    with torch.inference_mode(kind == "network"):
        predict()
    whole.stop()
    result = {"peak_bytes": peak_main_memory() - before, "seconds": whole.seconds(), "passes": passes.seconds()}
    write_json(Path(output) / f"{kind}.json", result | {"machine": machine()})


def nnunet_prediction(
    run: ConfigWorkflow, network: nn.Module, classes: int, volume: str, output: str
) -> Callable[[], Any]:
    """Function that writes nnU-Net's label map of a volume; arguments as for `measure`, with the bundle's workflow."""
    from .nnunet_predictor import nnunet_predictor

    spacing, patch_size, intensity = (run.parser[key] for key in ("spacing", "patch_size", "intensity"))
    window = (intensity["a_min"], intensity["a_max"]) if "a_min" in intensity else None
    predictor = nnunet_predictor(network, classes, spacing, patch_size, window)
    Path(output, "nnunet").mkdir(exist_ok=True)
    return partial(predictor.predict_from_files_sequential, [[volume]], [f"{output}/nnunet/case_label"])


def differing_share(ours: str, other: str, values: list[int]) -> float:
    """The share of voxels in which the only label maps below two folders differ.

    Args:
        ours: folder of ours.
        other: folder of a map of classes.
        values: the label value of each class in ours.
    """
    paths = [next(Path(folder).rglob("*_label.nii.gz")) for folder in (ours, other)]
    labels, classes = (np.asarray(nibabel.load(path).dataobj) for path in paths)
    different = sum(
        int((plane != np.take(values, classes[..., number].astype(int))).sum())
        for number, plane in enumerate(np.moveaxis(labels, -1, 0))
    )
    return different / labels.size


def measured_alone(kind: str, python: str, *arguments: Any) -> dict[str, Any]:
    """What `measure` writes for a kind in a process of its own, or how a process ended that needed too much memory.

    Args:
        kind: see `measure`.
        python: the interpreter.
        arguments: the others of `measure`.

    Raises:
        RuntimeError: the process ended for another reason.
    """
    code = f"from benchmarks.inference import measure; measure(*{(kind, *arguments)!r})"
    ended = subprocess.run([python, "-c", code], cwd=ROOT, capture_output=True, text=True)
    if ended.returncode == 0:
        return read_json(Path(arguments[2]) / f"{kind}.json", "a result")
    end = ended.stderr[-2000:]  # frames of C++ may follow the reason
    reasons = [line for line in end.splitlines() if OUT_OF_MEMORY.search(line)]
    if reasons or ended.returncode == -signal.SIGKILL:
        return {"out_of_memory": reasons[-1][-300:] if reasons else "killed"}
    raise RuntimeError(f"{kind}: exit status {ended.returncode}: {end}")


def main(
    side: int = 512,
    depth: int = 400,
    classes: int = 8,
    voxel: tuple[float, float, float] = (0.7, 0.7, 1.0),
    kinds: tuple[str, ...] = ("network", "ours", "stock", "nnunet"),
    channels: list[int] | None = None,
    limit_gb: float = 10.0,
    nnunet_python: str = sys.executable,
    output: str | None = str(RESULTS / "inference.json"),
) -> None:
    """Measures each kind in its own process, prints the result and puts it into the JSON under the shape and classes.

    Args:
        side: voxels of the volume on the first two axes.
        depth: voxels on the third axis.
        classes: 8 for the heart, 29 for the brain.
        voxel: size of a voxel of the file, mm; with the spacing of the bundle it decides the number of windows.
        kinds: what is measured. "stock" and "nnunet" need about four bytes for each voxel and class, several times.
        channels: of a network with random weights, such as the paper's [32,64,128,256,512]; by default the bundle's.
        limit_gb: memory of a process, 10^9 bytes, with its libraries.
        nnunet_python: the Python interpreter that has the extra `nnunet`.
        output: file for the JSON, with the results of other shapes; None prints only.
    """
    if classes not in TASKS:
        raise ValueError(f"classes is {classes}, expected one of {sorted(TASKS)}")
    shape = (side, side, depth)
    with tempfile.TemporaryDirectory() as folder:
        volume = Path(folder) / "case.nii.gz"
        write_phantom(volume, classes, shape, voxel)
        measured = {}
        for kind in kinds:
            python = nnunet_python if kind == "nnunet" else sys.executable
            measured[kind] = measured_alone(kind, python, str(volume), classes, folder, limit_gb, channels)
        result = summary(measured, shape)
        config = read_json(BUNDLES / TASKS[classes][0] / "configs" / "inference.json", "a config")
        complete = [kind for kind in kinds if "out_of_memory" not in measured[kind]]
        for kind in set(complete) & {"stock", "nnunet"} if "ours" in complete else ():
            share = differing_share(f"{folder}/ours", f"{folder}/{kind}", [0, *config["labels"].values()])
            result[kind]["voxels with another label than ours / all"] = round(share, 6)
    settings = {"voxel_mm": list(voxel), "limit_gb": limit_gb}
    result |= settings | {"command": command("inference")}
    print(json.dumps(result, indent=2))
    if output:
        path = Path(output)
        earlier = read_json(path, "results of this benchmark") if path.exists() else {}
        name = f"{side}x{side}x{depth}, {classes} classes" + (f", channels {channels}" if channels else "")
        write_json(path, earlier | {name: result})


def summary(measured: dict[str, dict[str, Any]], shape: tuple[int, int, int]) -> dict[str, Any]:
    """What was measured, with memory in volumes of float32 and seconds of the processor in those of the own passes.

    Args:
        measured: kind -> what `measured_alone` returned.
        shape: of the volume.
    """
    volume = 4 * int(np.prod(shape))
    result: dict[str, Any] = {"volume_float32_bytes": volume}
    for kind, values in measured.items():
        result[kind] = {name: value for name, value in values.items() if name != "machine"}
        if "out_of_memory" not in values:
            result[kind]["peak / volume"] = round(values["peak_bytes"] / volume, 3)
            ratio = values["seconds"]["processor"] / values["passes"]["processor"]
            result[kind]["seconds / passes"] = round(ratio, 3)
    versions = next(iter(values["machine"] for values in measured.values() if "machine" in values))
    return result | {name: versions[name] for name in ("device", "versions")}


if __name__ == "__main__":
    run_tool(main)
