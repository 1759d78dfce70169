# SPDX-License-Identifier: Apache-2.0
"""Networks for programs without this package: python -m tools.export --bundle heart --to onnx --check

ONNX and TorchScript are written by MONAI's onnx_export and ckpt_export, .pt2 by torch.export. `--check` loads each file
in a process that cannot import our code and compares it with the network. The check of ONNX needs the extra `onnx` of
setup.cfg.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ckpt_export, onnx_export
from torch import nn

from custom.files import read_json, write_json
from custom.running import run_tool
from custom.running.arguments import listed
from custom.shipped import find_bundle, shipped_bundles
from custom.weights import load_strictly, network_from, read_weights

ENDINGS = {"onnx": "onnx", "torchscript": "ts", "pt2": "pt2"}  # format -> ending of the file
STEP, LARGEST = 16, 1024  # sides of a volume for .pt2: multiples of STEP, 2 * STEP to LARGEST voxels
BATCH = 64  # largest batch for .pt2
EXAMPLE = (2, 32, 48, 64)  # batch and sides with which a network is traced: unequal, and none of them 1
SHAPES = ((1, 48, 48, 48), (2, 64, 32, 48))  # batch and sides that are compared
TOLERANCE = 1e-4  # largest difference of an output value
RUNS = 3  # timed runs after a first one


def export(
    bundle: str,
    to: str = "onnx,torchscript,pt2",
    output_dir: str = "exports",
    weights: str = "",
    check: bool = False,
    results: str = "",
) -> None:
    """Writes output_dir/BUNDLE.onnx, .ts and .pt2: one input `image` (N, C, x, y, z), one output `pred`.

    A line of JSON is printed for each file: bundle, format, size in MB, and with `check` the largest difference and the
    processor seconds of a volume, of the file and of the network.

    Args:
        bundle: names such as heart or gvsl_seg_heart, separated by commas; `all`; or the folder of a bundle.
        to: formats, separated by commas: onnx, torchscript, pt2.
        output_dir: folder to write to; made if missing.
        weights: folder with model.pt and model.json, such as the output of your training; by default those in the
            bundle's models/.
        check: load each file without our code and compare its output with the network's.
        results: JSON file for what was measured; a table of it is printed. It means `check`.

    Raises:
        ValueError: a format or a bundle does not exist or none is named, `weights` are named for several bundles or
            were trained for another task than the bundle's, or an output differs by more than 1e-4.
    """
    formats, check = listed(to), check or bool(results)
    if not formats:
        raise ValueError(f"to is {to!r}, expected of {[*ENDINGS]}")
    if unknown := [name for name in formats if name not in ENDINGS]:
        raise ValueError(f"to names {unknown[0]!r}, expected of {[*ENDINGS]}")
    rows, folders = [], bundle_folders(bundle)
    if weights and len(folders) > 1:
        raise ValueError(f"weights is {weights!r} for {len(folders)} bundles, expected one bundle")
    for folder in folders:
        network, description = weighted_network(Path(weights or folder / "models"))
        if weights:
            check_task(folder, weights, description)
        for name in formats:
            path = Path(output_dir, f"{folder.name}.{ENDINGS[name]}")
            path.parent.mkdir(parents=True, exist_ok=True)
            WRITERS[name](path, folder, Path(weights or folder / "models"), network, description)
            row = {"bundle": folder.name, "format": name, "megabytes": path.stat().st_size / 1e6}
            rows.append(row | (compared(path, network, in_channels(description)) if check else {}))
            print(json.dumps(rows[-1]), flush=True)
    if results:
        write_json(results, {"shapes": SHAPES, "torch": torch.__version__, "exports": rows})
        print(table(rows))
    if wrong := [row for row in rows if row.get("difference", 0.0) > TOLERANCE]:
        raise ValueError(f"{wrong[0]['bundle']} as {wrong[0]['format']} differs by {wrong[0]['difference']:.1e}")


def check_task(folder: Path, weights: str, description: Mapping[str, Any]) -> None:
    """Raises ValueError if weights were trained for another task than the bundle's; pre-training has none."""
    expected, found = read_json(folder / "models" / "model.json").get("task"), description.get("task")
    if found != expected:
        raise ValueError(f"{weights}: model.json: task is {found!r}, expected {expected!r} of {folder.name}")


def table(rows: list[dict[str, Any]]) -> str:
    """What `export` measured with `check`, as a table in Markdown."""
    head = ["bundle", "format", "MB", "difference", "seconds", "seconds of torch"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        numbers = [f"{row['megabytes']:.1f}", f"{row['difference']:.0e}" if row["difference"] else "0"]
        numbers += [f"{row[name]:.2f}" for name in ("seconds", "seconds_of_network")]
        lines.append([row["bundle"], row["format"], *numbers])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def bundle_folders(bundle: str) -> list[Path]:
    """The folders that `bundle` of `export` names."""
    if bundle == "all":
        return list(shipped_bundles().values())
    names = listed(bundle)
    if not names:
        raise ValueError(f"bundle is {bundle!r}, expected a folder or of {[*shipped_bundles()]}")
    if (Path(names[0]) / "configs").is_dir():
        return [Path(name).resolve() for name in names]
    folders = [find_bundle(name) for name in names]
    if None in folders:
        raise ValueError(f"{names[folders.index(None)]} is no bundle, expected a folder or of {[*shipped_bundles()]}")
    return folders


def weighted_network(weights: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network that a folder of weights describes, in eval mode with these weights, and the description."""
    state, description = read_weights(weights)
    network = network_from(description).eval()
    load_strictly(network, state, weights / "model.pt")
    return network, description


def in_channels(description: dict[str, Any]) -> int:
    """Channels of the volumes that a model.json describes."""
    network = description["network"]
    return int(network.get("backbone", network)["in_channels"])


def of_bundle(path: Path, folder: Path, weights: Path, network: nn.Module) -> dict[str, Any]:
    """The arguments that MONAI's exports share. The network is that of the weights, not of inference.json."""
    return {
        "net_id": "network_def",
        "filepath": str(path),
        "ckpt_file": str(weights / "model.pt"),
        "meta_file": str(folder / "configs" / "metadata.json"),
        "config_file": str(folder / "configs" / "inference.json"),
        "bundle_root": str(folder),
        "network_def": network,
    }


def write_onnx(path: Path, folder: Path, weights: Path, network: nn.Module, description: dict[str, Any]) -> None:
    """ONNX for any batch and any sides.

    Traced: the exporter by torch.export takes minutes where the sides are free.
    """
    batch, *sides = EXAMPLE
    free = {0: "batch", 2: "x", 3: "y", 4: "z"}
    metadata = read_json(folder / "configs" / "metadata.json")
    outputs = free if metadata["network_data_format"]["outputs"]["pred"]["spatial_shape"] else {0: "batch"}
    arguments = {"dynamo": False, "input_names": ["image"], "output_names": ["pred"]}
    arguments["dynamic_axes"] = {"image": free, "pred": outputs}
    common = of_bundle(path, folder, weights, network)
    shape = [batch, in_channels(description), *sides]
    onnx_export(**common, use_trace=True, input_shape=shape, converter_kwargs=arguments)


def write_torchscript(path: Path, folder: Path, weights: Path, network: nn.Module, description: dict[str, Any]) -> None:
    """TorchScript for any batch and any sides, with metadata.json and inference.json inside."""
    ckpt_export(**of_bundle(path, folder, weights, network))


def write_pt2(path: Path, folder: Path, weights: Path, network: nn.Module, description: dict[str, Any]) -> None:
    """A program of torch.export for batches to 64 and sides of 32, 48, ..., 1024 voxels, with metadata.json inside."""
    batch, *sides = EXAMPLE
    image = torch.rand(batch, in_channels(description), *sides)
    steps = [STEP * torch.export.Dim(name, min=2, max=LARGEST // STEP) for name in "xyz"]
    free = dict(zip((0, 2, 3, 4), (torch.export.Dim("batch", min=1, max=BATCH), *steps), strict=True))
    program = torch.export.export(network, (image,), dynamic_shapes=(free,))
    metadata = (folder / "configs" / "metadata.json").read_text(encoding="utf-8")
    torch.export.save(program, path, extra_files={"metadata.json": metadata})


WRITERS = {"onnx": write_onnx, "torchscript": write_torchscript, "pt2": write_pt2}


@torch.inference_mode()
def compared(
    path: Path, network: nn.Module, channels: int, shapes: Sequence[Sequence[int]] | None = None
) -> dict[str, Any]:
    """Compares a file with its network in another process, which cannot import our code.

    Args:
        path: the file.
        network: in eval mode.
        channels: of the volumes.
        shapes: batch and sides of each volume; `SHAPES` by default.

    Returns:
        The largest absolute difference of the outputs, and the processor seconds that file and network
        need for the first of them, on one thread.
    """
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(batch, channels, *sides, generator=generator) for batch, *sides in shapes or SHAPES]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cases = [(image, network(image)) for image in images]
    seconds = processor_seconds(network, images[0])
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as temporary:
        torch.save(cases, Path(temporary, "cases.pt"))
        checker = Path(__file__).with_name("exported.py")
        command = [sys.executable, "-I", str(checker), str(path.resolve()), "cases.pt", str(RUNS)]
        done = subprocess.run(command, cwd=temporary, env=one_thread(), stdout=subprocess.PIPE, encoding="utf-8")
    if done.returncode:
        raise ValueError(f"{path} cannot be used without our code, see above")
    return {**json.loads(done.stdout.splitlines()[-1]), "seconds_of_network": seconds}


def one_thread() -> dict[str, str]:
    """The environment of a process with one thread."""
    return os.environ | {"OMP_NUM_THREADS": "1"}


def processor_seconds(call: Any, image: torch.Tensor) -> float:
    """The fewest processor seconds of `RUNS` calls."""
    seconds = []
    for _ in range(RUNS):
        start = time.process_time()
        call(image)
        seconds.append(time.process_time() - start)
    return min(seconds)


if __name__ == "__main__":
    run_tool(export)
