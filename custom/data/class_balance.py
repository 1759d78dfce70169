# SPDX-License-Identifier: Apache-2.0
"""Weights of classes in a loss that let small structures count."""

from __future__ import annotations

import torch
from monai.utils import convert_to_tensor

from .samples import SampleDataset


def class_weights(dataset: SampleDataset, classes: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """The weight of each class: one over the square root of its number of voxels, scaled to mean 1.

    The mean is taken over the classes that occur. With the Dice loss alone, or with cross-entropy without weights, a
    network may never predict structures of few voxels.

    Args:
        dataset: training data with label maps of 0 to classes - 1; every volume is read once.
        classes: number of classes, including the background.
        device: device of the result.

    Returns:
        (classes,) weights, 0 for a class that does not occur.
    """
    counts = torch.zeros(classes, dtype=torch.float64)
    for index in range(len(dataset.volumes)):
        label = convert_to_tensor(dataset.volumes[index]["label"], track_meta=False).flatten().long()
        counts += torch.bincount(label, minlength=classes)
    weights = torch.where(counts > 0, counts.rsqrt(), 0.0)
    return (weights / weights[counts > 0].mean()).float().to(device)
