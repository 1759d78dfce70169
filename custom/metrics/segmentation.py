# SPDX-License-Identifier: Apache-2.0
"""Measures of the agreement of a label map with its reference, for each structure."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance

from .centre_line import centre_line_dice


def segmentation_measures(
    prediction: torch.Tensor,
    reference: torch.Tensor,
    structures: Mapping[str, int],
    spacing: Sequence[float],
    centre_lines: bool = False,
) -> dict[str, dict[str, float]]:
    """
    Dice and the 95th percentile of the symmetric surface distance (Hausdorff) of each structure.

    Args:
        prediction: label map (*spatial) of whole numbers.
        reference: label map (*spatial) of whole numbers.
        structures: name -> value in both maps.
        spacing: voxel size in mm along each axis.
        centre_lines: measure the centre-line Dice as well, for vessels.

    Returns:
        "dice" -> name -> 0 to 1, NaN if the reference does not have the structure; "hausdorff95" -> name -> mm, NaN if
        one of the maps does not have it; with `centre_lines` also "centre_line_dice" -> name -> 0 to 1.

    Raises:
        ValueError: the maps have different shapes.
    """
    if prediction.shape != reference.shape:
        shapes = f"{tuple(prediction.shape)}, the reference of {tuple(reference.shape)}"
        raise ValueError(f"the prediction is of shape {shapes}, expected the same one")
    measures: dict[str, dict[str, float]] = {"dice": {}, "hausdorff95": {}}
    for name, value in structures.items():  # one by one, since the masks of a large volume would fill the memory
        masks = [(labels == value)[None, None] for labels in (prediction, reference)]
        measures["dice"][name] = float(compute_dice(masks[0], masks[1], include_background=True, ignore_empty=True))
        distance = np.nan
        if all(mask.any() for mask in masks):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # MONAI warns of masks that are all surface
                distance = float(
                    compute_hausdorff_distance(*masks, include_background=True, percentile=95, spacing=list(spacing))
                )
        measures["hausdorff95"][name] = distance
        if centre_lines:
            measures.setdefault("centre_line_dice", {})[name] = centre_line_dice(*(mask[0, 0] for mask in masks))
    return measures
