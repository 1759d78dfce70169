# SPDX-License-Identifier: Apache-2.0
"""Training steps of configs on fake CUDA tensors: memory of the tensors, host syncs, devices and types."""

from __future__ import annotations

import traceback
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from monai.bundle import ConfigParser
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from benchmarks.bundles import BUNDLES

aten = torch.ops.aten
RANGES = (aten.arange.default, aten.arange.start, aten.arange.start_step)


@dataclass(frozen=True)
class Step:
    """A training step that is traced: train.json of a bundle with overlays and overrides."""

    bundle: str = "gvsl_pretrain"
    overlays: tuple[str, ...] = ()
    overrides: dict[str, Any] = field(default_factory=dict)
    amp: bool = False


class Watch(TorchDispatchMode):
    """Follows what is computed on fake tensors. Values that are read are 1.

    Attributes:
        peak: largest sum of the bytes of all CUDA storages that were alive at once.
        syncs: place in the code -> how often the host waited for the device there.
        double: place in the code -> how often a float64 tensor was made on the device there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self.storages: dict[int, int] = {}
        self.pinned: set[int] = set()
        self.syncs: Counter[str] = Counter()
        self.double: Counter[str] = Counter()

    def start(self) -> None:
        """Forgets what was counted so far; storages that are alive stay."""
        self.peak = self.alive
        self.syncs.clear()
        self.double.clear()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is aten._local_scalar_dense.default:
            if args[0].device.type == "cuda":
                self.syncs[caller()] += 1
            return 1.0 if args[0].is_floating_point() else 1
        if function is aten._pin_memory.default:
            self.pinned.add(args[0].untyped_storage()._cdata)
            return args[0]
        if function is aten._to_copy.default and self.waits(args[0], kwargs):
            self.syncs[caller()] += 1
        if function in RANGES and torch.device(kwargs.get("device") or "cpu").type == "cpu":
            with unset_fake_temporarily():  # lists of axes are made so
                return function(*args, **kwargs)
        result = function(*args, **kwargs)
        for tensor in tree_iter(result):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "cuda":
                self.follow(tensor)
                if tensor.dtype == torch.float64:
                    self.double[caller()] += 1
        return result

    def waits(self, tensor: torch.Tensor, copy: dict[str, Any]) -> bool:
        """Whether the host waits for a copy: one between host and device, unless non-blocking and of pinned memory.

        Args:
            tensor: the source.
            copy: keyword arguments of aten::_to_copy.
        """
        device = copy.get("device")
        if device is None or torch.device(device).type == tensor.device.type:
            return False
        return not (copy.get("non_blocking") and tensor.untyped_storage()._cdata in self.pinned)

    def follow(self, tensor: torch.Tensor) -> None:
        """Counts the storage of a tensor until it is freed."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.storages:
            self.storages[key] = storage.nbytes()
            self.alive += self.storages[key]
            self.peak = max(self.peak, self.alive)
            weakref.finalize(storage, self.forget, key)

    def forget(self, key: int) -> None:
        self.alive -= self.storages.pop(key)


def trace(step: Step) -> dict[str, Any]:
    """Two training steps on fake CUDA tensors. The second is watched, when constants and the optimiser's state exist.

    Returns:
        "peak_gib": the largest sum of all tensors on the device, with weights, gradients and optimiser state.
        "syncs" and "float64": see `Watch`.
        "without_gradient": trained weights that got no gradient, or one that is not on the device.

    Raises:
        FakeTensorDeviceMismatchError: an operation has tensors of host and device.
    """
    parser = read(step)
    with pretended_gpu(), FakeTensorMode(allow_non_fake_inputs=True), Watch() as watch:
        with torch.device("cuda"):
            trainer = parser.get_parsed_content("train::trainer")
            batch = fake_batch(parser)
        trainer.state.device = torch.device("cuda")
        if step.amp:
            trainer.scaler = torch.amp.GradScaler("cuda")
        trainer._iteration(trainer, batch)
        watch.start()
        trainer._iteration(trainer, batch)
    trained = {name: weight for name, weight in trainer.network.named_parameters() if weight.requires_grad}
    lost = [name for name, weight in trained.items() if weight.grad is None or weight.grad.device.type != "cuda"]
    counts = {"syncs": dict(watch.syncs), "float64": dict(watch.double), "without_gradient": lost}
    return {"peak_gib": round(watch.peak / 2**30, 2), **counts}


def read(step: Step) -> ConfigParser:
    """The config of a step, without data and handlers."""
    folder, parser = BUNDLES / step.bundle, ConfigParser()
    parser.read_config([str(folder / "configs" / name) for name in ("train.json", *step.overlays)])
    cases = [{"image": name, "subject": name} for name in "ab"]
    parser.update(
        {
            "bundle_root": str(folder),
            "device": "$torch.device('cuda')",
            "amp": step.amp,
            "data": {"training": cases, "validation": []},
            "train::handlers": [],
            "train::dataloader": "$[None]",
            **({} if step.bundle == "gvsl_pretrain" else {"pretrained_weights": None}),
            **step.overrides,
        }
    )
    return parser


def fake_batch(parser: ConfigParser) -> dict[str, Any]:
    """A batch of the size that the config names: volumes on the device, numbers of one axis on the host."""
    size, get = parser.get_parsed_content("batch_size"), parser.get_parsed_content
    volume = torch.empty(size, 1, *get("patch_size"))
    if "pretext_network" in parser.get():
        keys = get("train::spatial_transform").group_of
        numbers = {name: torch.zeros(size, dtype=torch.int64, device="cpu") for name in HOST_NUMBERS}
        return {key: volume.clone() for key in keys} | numbers
    is_class = "ClassificationNetwork" in parser["network_def"]["_target_"]
    label = torch.zeros(size, dtype=torch.int64) if is_class else volume.clone()
    return {"image": volume, "label": label}


HOST_NUMBERS = ("seed", "index", "moving_index", "fixed_index")


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """torch takes the stand-in for a GPU; modules stay where they are made, because fake weights cannot be moved."""
    make = torch.tensor

    def tensor(*args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:  # there are no values on the stand-in
        made, device = make(*args, device="cpu", **kwargs), torch.device(device or torch.empty(0).device)
        return made if device.type == "cpu" else torch.empty(made.shape, dtype=made.dtype, device=device)

    with (
        mock.patch("torch.tensor", tensor),
        mock.patch("torch.cuda.is_available", return_value=True),
        mock.patch("torch.cuda.is_bf16_supported", return_value=True),
        mock.patch.object(nn.Module, "to", lambda module, *args, **kwargs: module),
    ):
        yield


def caller() -> str:
    """File and line of the innermost frame in `custom` or MONAI."""
    frames = reversed(traceback.extract_stack())
    frame = next((frame for frame in frames if {"custom", "monai"} & {*Path(frame.filename).parts}), None)
    return "elsewhere" if frame is None else f"{'/'.join(Path(frame.filename).parts[-3:])}:{frame.lineno}"
