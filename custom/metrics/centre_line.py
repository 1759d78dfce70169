# SPDX-License-Identifier: Apache-2.0
"""Centre-line Dice (clDice): how well tubes agree as trees, whatever their width (Shit et al., CVPR 2021)."""

from __future__ import annotations

import numpy as np
import torch
from monai.metrics import CumulativeIterationMetric
from skimage.morphology import skeletonize


def centre_line_dice(prediction: torch.Tensor, reference: torch.Tensor) -> float:
    """
    2 P S / (P + S) with P the share of the prediction's centre line inside the reference, S the share of the
    reference's centre line inside the prediction; the centre line is the skeleton of the voxels (Lee's thinning).

    Args:
        prediction, reference: (*spatial), true or non-zero inside.

    Returns:
        0 to 1; NaN where the reference is empty, 0 where the prediction alone is.

    Raises:
        ValueError: masks of different shapes, or not three-dimensional.
    """
    if prediction.shape != reference.shape or prediction.ndim != 3:
        shapes = f"{tuple(prediction.shape)} and {tuple(reference.shape)}"
        raise ValueError(f"the masks are of shape {shapes}, expected one three-dimensional shape")
    found, true = (np.asarray(mask.cpu()) != 0 for mask in (prediction, reference))
    if not true.any():
        return float("nan")
    if not found.any():
        return 0.0
    precision, sensitivity = true[centre_line(found)].mean(), found[centre_line(true)].mean()
    return float(2 * precision * sensitivity / max(precision + sensitivity, 1e-12))


def centre_line(mask: np.ndarray) -> np.ndarray:
    """The skeleton (Lee) of a boolean volume; the volume itself where nothing is left, as of a cube with even sides."""
    skeleton = skeletonize(mask)
    return skeleton if skeleton.any() else mask


class CentreLineDice(CumulativeIterationMetric):
    """`centre_line_dice` of maps of classes, averaged over the structures and volumes that the reference holds.

    Call it with lists of (1, *spatial) maps, or batches of them.

    Args:
        num_classes: with the background.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.tensor(
            [
                [centre_line_dice(found[0] == value, true[0] == value) for value in range(1, self.num_classes)]
                for found, true in zip(y_pred, y, strict=True)
            ]
        )

    def aggregate(self) -> torch.Tensor:
        """The mean of all values that exist."""
        return torch.nanmean(self.get_buffer())
