# SPDX-License-Identifier: Apache-2.0
"""MONAI's supervised engines with mixed precision on CPUs too, where MONAI's own `amp` does nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.inferers import Inferer
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")  # what torch calls the instructions of x86 and Arm


class ShallowConvolutions(TorchFunctionMode):
    """Computes 3D convolutions of volumes (N, C, depth, ...) shallower than their kernel in float32 under CPU autocast.

    There the bfloat16 weight gradients of oneDNN 3.12 (torch 2.13) are wrong and overwrite memory on CPUs with
    AVX512-BF16 and without AMX (AMD EPYC of the fourth generation).
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is F.conv3d and args[0].shape[2] < args[1].shape[2]:
            with torch.autocast("cpu", enabled=False):
                return function(args[0].to(args[1].dtype), *args[1:], **kwargs)
        return function(*args, **kwargs)


@contextmanager
def autocast(device: torch.device | str, enabled: bool = True, **kwargs: Any) -> Iterator[None]:
    """torch.autocast of what a device computes correctly; takes the same arguments."""
    kind = torch.device(device).type
    correct = ShallowConvolutions() if enabled and kind == "cpu" else nullcontext()
    with torch.autocast(kind, enabled=enabled, **kwargs), correct:
        yield


class AutocastInferer(Inferer):
    """Another inferer's predictions, computed in bfloat16 where autocast allows it, as float32.

    Faster than float32 on CPUs with AMX or AVX512-BF16; weights stay float32, nothing needs scaling.

    Args:
        inferer: gives a tensor.
    """

    def __init__(self, inferer: Inferer) -> None:
        super().__init__()
        self.inferer = inferer

    def __call__(self, inputs: torch.Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
        with autocast(inputs.device, dtype=torch.bfloat16):
            return self.inferer(inputs, network, *args, **kwargs).float().contiguous()


class MixedPrecisionTrainer(SupervisedTrainer):
    """MONAI's trainer; `amp` is float16 with scaled gradients on GPUs (MONAI's own), bfloat16 on CPUs that have it."""

    def __init__(self, device: torch.device | str, *args: Any, amp: bool = False, **kwargs: Any) -> None:
        on_gpu = is_gpu(device)
        super().__init__(device, *args, amp=amp and on_gpu, **kwargs)
        if not on_gpu and effective_amp(device, amp):
            self.inferer = AutocastInferer(self.inferer)


class MixedPrecisionEvaluator(SupervisedEvaluator):
    """MONAI's evaluator; `amp` is float16 on GPUs (MONAI's own) and bfloat16 on CPUs that have it."""

    def __init__(self, device: torch.device | str, *args: Any, amp: bool = False, **kwargs: Any) -> None:
        on_gpu = is_gpu(device)
        super().__init__(device, *args, amp=amp and on_gpu, **kwargs)
        if not on_gpu and effective_amp(device, amp):
            self.inferer = AutocastInferer(self.inferer)


def effective_amp(device: torch.device | str, amp: bool) -> bool:
    """`amp`, but False with a warning on a CPU that has to emulate bfloat16, which takes longer than float32."""
    if amp and not is_gpu(device) and not computes_bfloat16():
        warnings.warn(
            "amp=True, but this CPU has no bfloat16 instructions (AVX512-BF16, AMX, or those of Arm): "
            "computing in float32, which is faster here",
            stacklevel=3,
        )
        return False
    return amp


def computes_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16; True where torch is too old to tell."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return True
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in BFLOAT16)


def is_gpu(device: torch.device | str) -> bool:
    """Whether MONAI's `amp` works there."""
    return torch.device(device).type == "cuda"
