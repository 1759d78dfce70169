# SPDX-License-Identifier: Apache-2.0
"""Centre-line Dice (clDice): the agreement of the centre lines of vessels (Shit et al., CVPR 2021)."""

from __future__ import annotations

import numpy as np
import torch
from monai.metrics import CumulativeIterationMetric
from skimage.morphology import skeletonize


def centre_line_dice(prediction: torch.Tensor, reference: torch.Tensor) -> float:
    """
    2 P S / (P + S). P is the share of the prediction's centre line inside the reference, S the share of the reference's
    centre line inside the prediction. The centre line is the skeleton of the voxels (Lee's thinning).

    Args:
        prediction: (*spatial), true or non-zero inside.
        reference: (*spatial), true or non-zero inside.

    Returns:
        0 to 1; NaN if the reference is empty, 0 if only the prediction is empty.

    Raises:
        ValueError: the masks have different shapes, or are not three-dimensional.
    """
    if prediction.shape != reference.shape or prediction.ndim != 3:
        shapes = f"{tuple(prediction.shape)} and {tuple(reference.shape)}"
        raise ValueError(f"the masks are of shape {shapes}, expected one three-dimensional shape")
    predicted, true = (np.asarray(mask.cpu()) != 0 for mask in (prediction, reference))
    if not true.any():
        return float("nan")
    if not predicted.any():
        return 0.0
    precision, sensitivity = true[centre_line(predicted)].mean(), predicted[centre_line(true)].mean()
    return float(2 * precision * sensitivity / max(precision + sensitivity, 1e-12))


def centre_line(mask: np.ndarray) -> np.ndarray:
    """The skeleton (Lee) of a boolean volume; the volume itself if the skeleton is empty (a cube with even sides)."""
    skeleton = skeletonize(mask)
    return skeleton if skeleton.any() else mask


class CentreLineDice(CumulativeIterationMetric):
    """The mean `centre_line_dice` of label maps over volumes and the structures that the reference has.

    Call it with lists of label maps (1, *spatial), or with batches of them.

    Args:
        num_classes: number of classes, the background among them.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.tensor(
            [
                [centre_line_dice(predicted[0] == value, true[0] == value) for value in range(1, self.num_classes)]
                for predicted, true in zip(y_pred, y, strict=True)
            ]
        )

    def aggregate(self) -> torch.Tensor:
        """The mean of all values that are not NaN."""
        return torch.nanmean(self.get_buffer())
