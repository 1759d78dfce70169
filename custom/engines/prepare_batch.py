# SPDX-License-Identifier: Apache-2.0
"""The step between the loader and the network: a batch is moved to the device and transformed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class PrepareBatch:
    """Moves the volumes of a batch to the device and transforms them there, without gradient.

    Tensors of one axis, such as the seed and the index of each pair, stay on the host, which reads them.

    Args:
        transform: returns the input of the network from the batch on the device, such as `RandSpatialTransform`; None
            for validation.
    """

    def __init__(self, transform: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> None:
        self.transform = transform

    def __call__(
        self, batch: dict[str, Any], device: torch.device | None = None, non_blocking: bool = False, **to_kwargs: Any
    ) -> dict[str, Any]:
        volumes = {name: value for name, value in batch.items() if torch.is_tensor(value) and value.ndim > 1}
        moved = {name: value.to(device, non_blocking=non_blocking, **to_kwargs) for name, value in volumes.items()}
        batch = batch | moved
        if self.transform is None:
            return batch
        with torch.no_grad():
            return self.transform(batch)


def prepare_partial_labels(
    batch: dict[str, Any], device: torch.device | None = None, non_blocking: bool = False, **to_kwargs: Any
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """The image, and (label, absent) as the target of `MarginalLoss`, on the device; for the trainers of MONAI.

    Args:
        batch: "image", "label" and "absent", which holds for each class whether it was not annotated, (N, classes).
        device: of the result.
        non_blocking: as for torch.Tensor.to.
        to_kwargs: others of torch.Tensor.to, for the image.
    """
    label, absent = (batch[name].to(device, non_blocking=non_blocking) for name in ("label", "absent"))
    return batch["image"].to(device, non_blocking=non_blocking, **to_kwargs), (label, absent)
