# SPDX-License-Identifier: Apache-2.0
"""Measures memory and time of the segmentation of one large volume.

python -m benchmarks.inference --side 512 --depth 400 --classes 8

A process each computes the same volume on the CPU with the weights of a bundle:
- "ours": inference.json, from reading the file to writing the labels;
- "stock": the same with MONAI's softmax, Invertd and argmax;
- "nnunet": the predictor of nnU-Net v2 with the same network, windows and grid, from file to file (extra `nnunet`);
- "network": the sliding windows alone, on the volume that is already on the grid of the network.
Each process loads the network and computes some windows first. Peak memory and time count from there.
"""

from __future__ import annotations

import json
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

from benchmarks.bundles import ROOT, workflow
from benchmarks.machine import machine, peak_main_memory, reset_peak_memory
from custom.files import read_json, write_json
from custom.phantoms.brain import make_brain_subject
from custom.phantoms.cardiac import make_cardiac_subject
from custom.running import run_tool
from custom.volumes import write_volume

TASKS = {8: ("gvsl_seg_heart", make_cardiac_subject), 29: ("gvsl_seg_brain", make_brain_subject)}
RESULTS = Path(__file__).resolve().parent / "results"
RANDOM_NETWORK = {"_target_": "custom.networks.on_device", "network": "@network_def", "device": "@device"}


def write_phantom(path: Path, classes: int, shape: tuple[int, int, int]) -> None:
    """Writes a phantom, enlarged to a shape by linear interpolation, as int16 with its physical size."""
    image, _, affine = TASKS[classes][1](0)
    scale = np.array(image.shape) / shape
    enlarged = zoom(image, 1 / scale, output=np.int16, order=1, mode="nearest", grid_mode=True)
    write_volume(path, enlarged, affine @ np.diag([*scale, 1.0]))


def stock_postprocessing(labels: Any) -> dict[str, Any]:
    """The postprocessing of inference.json by components of MONAI, which resample a volume of each class."""
    invert = {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image"}
    steps = [
        {"_target_": "Activationsd", "keys": "pred", "softmax": True},
        invert | {"nearest_interp": False},
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        {"_target_": "custom.transforms.DecodeLabelsd", "keys": "pred", "labels": labels},
    ]
    return {"_target_": "Compose", "transforms": steps}


def measure(kind: str, volume: str, classes: int, output: str, channels: list[int] | None = None) -> None:
    """Measures one kind in this process and writes it as JSON.

    Args:
        kind: "ours", "stock", "nnunet" or "network".
        volume: file of the volume.
        classes: 8 for the heart, 29 for the brain.
        output: folder for the labels and KIND.json.
        channels: of a network with random weights, instead of the bundle's.
    """
    changes = {"dataset_dir": volume, "output_dir": f"{output}/{kind}", "device": "cpu"}
    if channels:
        changes |= {"channels": channels, "network": RANDOM_NETWORK}
    if kind == "stock":
        changes["postprocessing"] = stock_postprocessing("@labels")
    run = workflow(TASKS[classes][0], ["inference.json"], changes, "infer")
    network, inferer = run.parser.get_parsed_content("network").eval(), run.inferer
    with torch.inference_mode():
        inferer(torch.zeros(inferer.sw_batch_size, 1, *inferer.roi_size), network)
        batch = list_data_collate([run.dataset[0]])["image"] if kind == "network" else None
        predict = nnunet_prediction(run, network, classes, volume, output) if kind == "nnunet" else run.run
    reset_peak_memory()
    before, start = peak_main_memory(), time.perf_counter()
    if kind == "network":
        with torch.inference_mode():
            inferer(batch, network)
    else:
        predict()
    seconds = time.perf_counter() - start
    result = {"peak_bytes": peak_main_memory() - before, "seconds": round(seconds, 2)}
    write_json(Path(output) / f"{kind}.json", result | {"machine": machine()})


def nnunet_prediction(
    run: ConfigWorkflow, network: nn.Module, classes: int, volume: str, output: str
) -> Callable[[], Any]:
    """Function that writes nnU-Net's label map of a volume; arguments as for `measure`, with the bundle's workflow."""
    from .nnunet_predictor import nnunet_predictor

    spacing, patch_size, intensity = (run.parser[key] for key in ("spacing", "patch_size", "intensity"))
    window = (intensity["a_min"], intensity["a_max"]) if "a_min" in intensity else None
    predictor = nnunet_predictor(network, classes, spacing, patch_size, window)
    return partial(predictor.predict_from_files_sequential, [[volume]], [f"{output}/nnunet"])


def differing_share(first: str, second: str) -> float:
    """The share of voxels in which the only label maps below two folders differ."""
    maps = [next(Path(folder).rglob("*_label.nii.gz")) for folder in (first, second)]
    images = [nibabel.load(path) for path in maps]
    first_array, second_array = (np.asarray(image.dataobj) for image in images)
    return float((first_array != second_array).mean())


def main(
    side: int = 512,
    depth: int = 400,
    classes: int = 8,
    kinds: tuple[str, ...] = ("network", "ours", "stock"),
    channels: list[int] | None = None,
    output: str | None = str(RESULTS / "inference.json"),
) -> None:
    """Measures each kind in its own process, prints the result and puts it into the JSON under the shape and classes.

    Args:
        side: voxels of the volume on the first two axes.
        depth: voxels on the third axis.
        classes: 8 for the heart, 29 for the brain.
        kinds: what is measured. "stock" and "nnunet" need about four bytes for each voxel and class, several times.
        channels: of a network with random weights, such as the paper's [32,64,128,256,512]; by default the bundle's.
        output: file for the JSON, with the results of other shapes; None prints only.
    """
    if classes not in TASKS:
        raise ValueError(f"classes is {classes}, expected one of {sorted(TASKS)}")
    shape = (side, side, depth)
    with tempfile.TemporaryDirectory() as folder:
        volume = Path(folder) / "case.nii.gz"
        write_phantom(volume, classes, shape)
        measured = {}
        for kind in kinds:
            call = (
                "from benchmarks.inference import measure; "
                f"measure({kind!r}, {str(volume)!r}, {classes}, {folder!r}, {channels})"
            )
            subprocess.run([sys.executable, "-c", call], cwd=ROOT, check=True)
            measured[kind] = read_json(Path(folder) / f"{kind}.json", "a result")
        result = summary(measured, shape)
        if {"ours", "stock"} <= measured.keys():
            result["voxels with another label / all"] = differing_share(f"{folder}/ours", f"{folder}/stock")
    result["command"] = " ".join(["python -m benchmarks.inference", *sys.argv[1:]])
    print(json.dumps(result, indent=2))
    if output:
        path = Path(output)
        earlier = read_json(path, "results of this benchmark") if path.exists() else {}
        name = f"{side}x{side}x{depth}, {classes} classes" + (f", channels {channels}" if channels else "")
        write_json(path, earlier | {name: result})


def summary(measured: dict[str, dict[str, Any]], shape: tuple[int, int, int]) -> dict[str, Any]:
    """What was measured, with memory in volumes of float32 and times in those of the network's passes.

    Args:
        measured: kind -> what `measure` wrote.
        shape: of the volume.
    """
    volume = 4 * int(np.prod(shape))
    result: dict[str, Any] = {"volume_float32_bytes": volume}
    for kind, values in measured.items():
        result[kind] = {name: values[name] for name in ("peak_bytes", "seconds")}
        result[kind]["peak / volume"] = round(values["peak_bytes"] / volume, 3)
        if "network" in measured:
            result[kind]["seconds / network"] = round(values["seconds"] / measured["network"]["seconds"], 3)
    versions = next(iter(measured.values()))["machine"]
    return result | {name: versions[name] for name in ("device", "versions")}


if __name__ == "__main__":
    run_tool(main)
