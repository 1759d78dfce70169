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

from .steps import follow_epochs

BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")  # what torch calls the instructions of x86 and Arm


class ShallowConvolutions(TorchFunctionMode):
    """Computes 3D convolutions of a volume (N, C, depth, ...) with less depth than the kernel in float32.

    The bfloat16 weight gradients of such convolutions are wrong, and overwrite memory, in oneDNN 3.12 (torch 2.13) on
    CPUs with AVX512-BF16 and without AMX (AMD EPYC of the fourth generation).
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
    """torch.autocast with these arguments; on CPUs shallow convolutions stay in float32 (see `ShallowConvolutions`)."""
    kind = torch.device(device).type
    correct = ShallowConvolutions() if enabled and kind == "cpu" else nullcontext()
    with torch.autocast(kind, enabled=enabled, **kwargs), correct:
        yield


class AutocastInferer(Inferer):
    """Computes the prediction of another inferer in bfloat16, where autocast allows it, and returns it as float32.

    This is faster than float32 on CPUs with AMX or AVX512-BF16. Weights stay float32, and gradients need no scaling.

    Args:
        inferer: returns a tensor.
    """

    def __init__(self, inferer: Inferer) -> None:
        super().__init__()
        self.inferer = inferer

    def __call__(self, inputs: torch.Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
        with autocast(inputs.device, dtype=torch.bfloat16):
            return self.inferer(inputs, network, *args, **kwargs).float().contiguous()


class MixedPrecisionTrainer(SupervisedTrainer):
    """MONAI's supervised trainer with mixed precision on CPUs too.

    The trainer attaches the `GlobalSampler` of its loader, see `follow_epochs`.

    Args:
        device: where a step is computed.
        amp: compute in float16 with scaled gradients on GPUs (MONAI's `amp`), in bfloat16 on CPUs that have such
            instructions (see `AutocastInferer`).
        *args: as `monai.engines.SupervisedTrainer`.
        **kwargs: as `monai.engines.SupervisedTrainer`.
    """

    def __init__(self, device: torch.device | str, *args: Any, amp: bool = False, **kwargs: Any) -> None:
        super().__init__(device, *args, amp=amp and is_gpu(device), **{"non_blocking": is_gpu(device), **kwargs})
        self.inferer = inferer_on(device, effective_amp(device, amp), self.inferer)
        follow_epochs(self)


class MixedPrecisionEvaluator(SupervisedEvaluator):
    """MONAI's supervised evaluator with mixed precision on CPUs too.

    Args:
        device: where a batch is computed.
        amp: compute in float16 on GPUs (MONAI's `amp`), in bfloat16 on CPUs that have such instructions.
        *args: as `monai.engines.SupervisedEvaluator`.
        **kwargs: as `monai.engines.SupervisedEvaluator`.
    """

    def __init__(self, device: torch.device | str, *args: Any, amp: bool = False, **kwargs: Any) -> None:
        super().__init__(device, *args, amp=amp and is_gpu(device), **kwargs)
        self.inferer = inferer_on(device, effective_amp(device, amp), self.inferer)


def inferer_on(device: torch.device | str, amp: bool, inferer: Inferer) -> Inferer:
    """The inferer itself or, with `amp` on a CPU, an `AutocastInferer` of it."""
    return AutocastInferer(inferer) if amp and not is_gpu(device) else inferer


def effective_amp(device: torch.device | str, amp: bool) -> bool:
    """`amp`, or False and a warning on a CPU without bfloat16 instructions, where emulation is slower than float32."""
    if amp and not is_gpu(device) and not computes_bfloat16():
        warnings.warn(
            "amp=True, but this CPU has no bfloat16 instructions (AVX512-BF16, AMX, or those of Arm): "
            "computing in float32, which is faster here",
            stacklevel=3,
        )
        return False
    return amp


def computes_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16; True if this version of torch cannot tell."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return True
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in BFLOAT16)


def is_gpu(device: torch.device | str) -> bool:
    """Whether the device is one on which MONAI's `amp` works."""
    return torch.device(device).type == "cuda"
