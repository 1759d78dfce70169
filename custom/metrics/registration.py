# SPDX-License-Identifier: Apache-2.0
"""Measures of registered pairs: similarity, overlap of labels, folding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.metrics import compute_dice

from ..layers import folded_share
from ..losses import local_ncc_loss
from ..networks import ZMatchingHead

LABELS = ("moving_label", "fixed_label")


def one_hot_dice(moved: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
    """Mean Dice over the structures that the fixed map has.

    Args:
        moved: occupancies (N, structures, *spatial); a voxel with at least 0.5 belongs to the structure.
        fixed: as `moved`.

    Returns:
        (N,), in [0, 1]; NaN if the fixed map has none of the structures.
    """
    return compute_dice((moved >= 0.5).float(), (fixed >= 0.5).float(), include_background=True).nanmean(dim=1)


class RegistrationMeasures:
    """Registration loss and mean Dice before, after the affine stage alone and after both; share of folded voxels.

    Names: registration_before, registration_affine, registration_after, folded_share, and with "moving_label" and
    "fixed_label" in the batch dice_before, dice_affine, dice_after. All in [0, 1], (N,).

    Args:
        matching_head: the head that computed the outputs.
        labels: values of the label maps.
        window: see `local_ncc_loss`.
        min_variance: see `local_ncc_loss`.
    """

    def __init__(
        self, matching_head: ZMatchingHead, labels: Sequence[int] = (), window: int = 9, min_variance: float = 1e-4
    ) -> None:
        self.matching_head = matching_head
        self.labels = tuple(labels)
        self.window = window
        self.min_variance = min_variance

    def __call__(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        moving, fixed = batch["moving"].float(), batch["fixed"].float()
        stages = {
            "before": lambda image: image,
            "affine": lambda image: self.matching_head.warp_affine(image, outputs),
            "after": lambda image: self.matching_head.warp(image, outputs),
        }
        measured = {"folded_share": folded_share(outputs["displacement"])}
        for stage, move in stages.items():
            measured[f"registration_{stage}"] = local_ncc_loss(move(moving), fixed, self.window, self.min_variance)
        if self.labels and all(name in batch for name in LABELS):
            values = torch.tensor(self.labels, device=fixed.device).view(1, -1, 1, 1, 1)
            moving_label, fixed_label = ((batch[name].round() == values).float() for name in LABELS)
            for stage, move in stages.items():
                measured[f"dice_{stage}"] = one_hot_dice(move(moving_label), fixed_label)
        return measured
