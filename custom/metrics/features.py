# SPDX-License-Identifier: Apache-2.0
"""Measures of features: the labels that nearest features recover, and the effective rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F


def effective_rank(features: torch.Tensor) -> torch.Tensor:
    """Exponential of the entropy of the normalised singular values of centred features (Roy and Vetterli, 2007).

    Args:
        features: (samples, channels).

    Returns:
        scalar from 1 (all samples on one line, or equal) to the number of channels.
    """
    singular_values = torch.linalg.svdvals((features - features.mean(dim=0)).double())
    share = singular_values / singular_values.sum().clamp_min(torch.finfo(torch.float64).tiny)
    return torch.special.entr(share).sum().exp()


class LabelRecovery:
    """The share of labelled voxels of the fixed volume whose nearest feature in the moving volume has the same label.

    Features are compared by cosine similarity on a random sample of voxels. The sample of the moving volume includes
    background. Returns "label_recovery", (N,), in [0, 1]; NaN if the sample has no labelled voxel.

    Args:
        labels: values of the label maps.
        voxels: number of sampled voxels of each volume.
        seed: of the sample.
    """

    def __init__(self, labels: Sequence[int], voxels: int = 4096, seed: int = 0) -> None:
        self.labels = tuple(labels)
        self.voxels = voxels
        self.seed = seed

    def __call__(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        if not self.labels or "moving_label" not in batch or "fixed_label" not in batch:
            return {}
        moving, fixed = outputs["local"].float().chunk(2)
        pairs = zip(moving, fixed, batch["moving_label"], batch["fixed_label"], strict=True)
        return {"label_recovery": torch.stack([self._recovered(*pair) for pair in pairs])}

    def _recovered(
        self, moving: torch.Tensor, fixed: torch.Tensor, moving_label: torch.Tensor, fixed_label: torch.Tensor
    ) -> torch.Tensor:
        order = torch.randperm(moving_label.numel(), generator=torch.Generator().manual_seed(self.seed))
        sample = order[: self.voxels].to(moving.device)
        moving_label, fixed_label = moving_label.flatten()[sample].round(), fixed_label.flatten()[sample].round()
        structure = torch.isin(fixed_label, torch.tensor(self.labels, dtype=fixed_label.dtype, device=fixed.device))
        moving = F.normalize(moving.flatten(1)[:, sample], dim=0)
        fixed = F.normalize(fixed.flatten(1)[:, sample[structure]], dim=0)
        nearest = moving_label[(fixed.T @ moving).argmax(dim=1)] if structure.any() else moving_label[:0]
        return (nearest == fixed_label[structure]).float().mean()
