# SPDX-License-Identifier: Apache-2.0
"""The training of the authors of GVSL, from a checkout of github.com/YutingHe-list/GVSL, on the CPU.

Their code stays in the checkout. What it needs to run here is changed from outside, while it is imported and called:
`.cuda()` and `.to("cuda")` return the tensor itself, and a list with one pair takes the place of their data loader,
so that neither SimpleITK nor volumes on the disk are needed.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch

LOADER = "utils.dataloader_heart_self_train"


class TheirTraining:
    """Their trainer with their network, Adam and transforms.

    Args:
        folder: the checkout; it holds PyTorch/Train_GVSL.py.
        moving: intensities in [0, 1], (1, 1, *spatial), as `fixed`. They have no names for the two: their first volume
            is damaged and restored, as our moving one.

    Attributes:
        trainer: of their class.
        losses: their module with the losses.
        optimizer: their Adam.

    Raises:
        FileNotFoundError: the folder is no checkout.
    """

    def __init__(self, folder: Path, moving: torch.Tensor, fixed: torch.Tensor) -> None:
        code = folder / "PyTorch"
        if not (code / "Train_GVSL.py").is_file():
            raise FileNotFoundError(f"{folder} has no PyTorch/Train_GVSL.py, expected a checkout of YutingHe-list/GVSL")
        loader = ModuleType(LOADER)
        loader.DatasetFromFolder3D = lambda folder: [None]
        with mock.patch.object(sys, "path", [str(code), *sys.path]), mock.patch.dict(sys.modules, {LOADER: loader}):
            training = importlib.import_module("Train_GVSL")
            self.losses = importlib.import_module("utils.losses")
        self.trainer: Any = training.Trainer()
        self.trainer.iters = 1
        self.trainer.dataloader_train = [(moving, fixed)]
        self.network, self.optimizer = self.trainer.gvsl, self.trainer.opt

    def step(self) -> None:
        """A step with their transforms, without reading the volumes."""
        with on_cpu(), contextlib.redirect_stdout(io.StringIO()):
            self.trainer.train_epoch(0)


@contextlib.contextmanager
def on_cpu() -> Iterator[None]:
    """Calls that move a tensor to a GPU return it as it is; warnings of newer versions of torch are not shown."""
    move: Callable[..., torch.Tensor] = torch.Tensor.to

    def to(tensor: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        return tensor if arguments == ("cuda",) else move(tensor, *arguments, **named)

    with (
        mock.patch.object(torch.Tensor, "cuda", lambda tensor: tensor),
        mock.patch.object(torch.Tensor, "to", to),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield
