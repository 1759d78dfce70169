# SPDX-License-Identifier: Apache-2.0
"""MONAI's supervised engines with mixed precision on CPUs too, where MONAI's own `amp` does nothing."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.inferers import Inferer
from torch import nn


class AutocastInferer(Inferer):
    """Another inferer's predictions, computed in bfloat16 where autocast allows it, as float32.

    Faster than float32 on CPUs with AMX (Intel, since 2023); weights stay float32, nothing needs scaling.

    Args:
        inferer: gives a tensor.
    """

    def __init__(self, inferer: Inferer) -> None:
        super().__init__()
        self.inferer = inferer

    def __call__(self, inputs: torch.Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
        with torch.autocast(inputs.device.type, torch.bfloat16):
            return self.inferer(inputs, network, *args, **kwargs).float().contiguous()


class MixedPrecisionTrainer(SupervisedTrainer):
    """MONAI's trainer; `amp` is float16 with scaled gradients on GPUs (MONAI's own) and bfloat16 on CPUs."""

    def __init__(self, device: torch.device | str, *args: Any, amp: bool = False, **kwargs: Any) -> None:
        on_gpu = is_gpu(device)
        super().__init__(device, *args, amp=amp and on_gpu, **kwargs)
        if amp and not on_gpu:
            self.inferer = AutocastInferer(self.inferer)


class MixedPrecisionEvaluator(SupervisedEvaluator):
    """MONAI's evaluator; `amp` is float16 on GPUs (MONAI's own) and bfloat16 on CPUs."""

    def __init__(self, device: torch.device | str, *args: Any, amp: bool = False, **kwargs: Any) -> None:
        on_gpu = is_gpu(device)
        super().__init__(device, *args, amp=amp and on_gpu, **kwargs)
        if amp and not on_gpu:
            self.inferer = AutocastInferer(self.inferer)


def is_gpu(device: torch.device | str) -> bool:
    """Whether MONAI's `amp` works there."""
    return torch.device(device).type == "cuda"
