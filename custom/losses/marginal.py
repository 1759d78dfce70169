# SPDX-License-Identifier: Apache-2.0
"""A loss for volumes in which some structures were not annotated."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ..layers import at_least_float32


def marginal_logits(logits: torch.Tensor, absent: torch.Tensor) -> torch.Tensor:
    """Logits for which absent structures count as background: p'(background) = p(background) + sum of p(absent).

    Args:
        logits: (N, classes, *spatial), class 0 is the background.
        absent: (N, classes), True for the structures that were not annotated in a volume; False for the background.

    Returns:
        logits of the same shape, at least in float32. The probability of an absent structure is 0.

    Raises:
        ValueError: `absent` is not of shape (N, classes), or names the background.
    """
    if absent.shape != logits.shape[:2]:
        raise ValueError(f"absent is of shape {tuple(absent.shape)}, expected {tuple(logits.shape[:2])}")
    absent = absent.bool()
    if absent[:, 0].any():
        raise ValueError("the background is absent, expected structures only")
    logits = at_least_float32(logits)
    absent = absent.view(*absent.shape, *[1] * (logits.ndim - 2))
    joined, lowest = absent.clone(), torch.finfo(logits.dtype).min
    joined[:, 0] = True
    background = logits.masked_fill(~joined, lowest).logsumexp(1, keepdim=True)
    return torch.cat((background, logits[:, 1:].masked_fill(absent[:, 1:], lowest)), 1)


class MarginalLoss(nn.Module):
    """Wraps a loss for label maps in which structures that were not annotated are labelled background.

    A structure is absent if nobody contoured it; it may still be in the volume. A voxel labelled background then shows
    the background or an absent structure, and its probability is the sum of theirs: the "marginal loss" of G. Shi et
    al., "Marginal loss and exclusion loss for partially supervised multi-organ segmentation", Medical Image Analysis
    2021. Voxels of absent structures are not punished, and voxels of annotated structures teach all classes.

    Args:
        loss: of logits (N, classes, *spatial) and labels (N, 1, *spatial); computes the softmax itself, such as
            DiceCELoss.
    """

    def __init__(self, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: torch.Tensor, target: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Logits and (label, absent), as `prepare_partial_labels` gives them -> the loss. See `marginal_logits`."""
        label, absent = target
        return self.loss(marginal_logits(logits, absent), label)
