# SPDX-License-Identifier: Apache-2.0
"""Weights that let small structures count."""

from __future__ import annotations

import torch
from monai.utils import convert_to_tensor

from .samples import SampleDataset


def class_weights(dataset: SampleDataset, classes: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """One over the root of each class's share of the labelled voxels, scaled to mean 1 over the classes that occur.

    With the Dice loss alone, or with plain cross-entropy, a network may give up structures of few voxels for good.

    Args:
        dataset: training data with label maps of 0 to classes - 1; its volumes are read once (from its cache where it
            has one). classes: with the background. device: of the result.

    Returns:
        weights (classes,), 0 for a class that does not occur.
    """
    counts = torch.zeros(classes, dtype=torch.float64)
    for place in range(len(dataset.volumes)):
        label = convert_to_tensor(dataset.volumes[place]["label"], track_meta=False).flatten().long()
        counts += torch.bincount(label, minlength=classes)
    weights = torch.where(counts > 0, counts.rsqrt(), 0.0)
    return (weights / weights[counts > 0].mean()).float().to(device)
