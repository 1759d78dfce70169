# SPDX-License-Identifier: Apache-2.0
"""Local voxel shuffling (Models Genesis; step 3 of GVSL), every box with a permutation of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from monai.config import KeysCollection

from .appearance import RandAppearanceTransform, RandKeyedTransform

__all__ = ["RandLocalShuffle", "RandLocalShuffled", "shuffle_box_size"]


def shuffle_box_size(spatial_shape: Sequence[int], box_fraction: float) -> tuple[int, ...]:
    """Sides of a box in voxels: the given fraction of each side, rounded down, but 2 voxels where the side has them.

    The authors' floor(side / 20) is 0 or 1 below 40 voxels, so that their shuffling silently does nothing there.
    """
    return tuple(min(side, max(2, math.floor(side * box_fraction + 1e-6))) for side in spatial_shape)


class RandLocalShuffle(RandAppearanceTransform):
    """Shuffle the voxels inside many small boxes of a volume (C, *spatial).

    Boxes read from the original volume; where they overlap, the later one wins. All channels share the permutations.
    The number of boxes follows the volume: round(density * voxels / box voxels), at least 1. The authors' 5000 boxes
    of 6^3 in 128^3 voxels are a density of 0.515, which touches 1 - exp(-0.515) = 40 % of the voxels. They use one
    permutation for all boxes; the paper (after Models Genesis) has one per box, and so do we. MONAI's
    RandCoarseShuffle is no substitute: it shuffles its input in place, an overlap twice, and draws while it computes.

    Args:
        density: expected number of boxes times their voxels, over the voxels of the volume.
        box_fraction: side of a box over the side of the volume, see `shuffle_box_size`.
        prob: probability of applying the transform.
    """

    def __init__(self, density: float = 0.515, box_fraction: float = 0.05, prob: float = 0.8) -> None:
        super().__init__(prob)
        if density <= 0:
            raise ValueError(f"density must be positive, got {density}")
        if not 0 < box_fraction <= 1:
            raise ValueError(f"box_fraction must be in (0, 1], got {box_fraction}")
        self.density = density
        self.box_fraction = box_fraction
        self.source = self.target = np.empty(0, dtype=np.intp)

    def draw(self, spatial_shape: Sequence[int]) -> None:
        """Draw the flat indices read (`source`) and written (`target`), box after box."""
        size = shuffle_box_size(spatial_shape, self.box_fraction)
        count = max(1, round(self.density * math.prod(spatial_shape) / math.prod(size)))
        start = [self.R.randint(0, side - box + 1, size=count) for side, box in zip(spatial_shape, size, strict=True)]
        corner = np.ravel_multi_index(start, tuple(spatial_shape))[:, None]
        inside = np.ravel_multi_index(np.indices(size).reshape(len(size), -1), tuple(spatial_shape))
        permutation = self.R.random_sample((count, inside.size)).argsort(axis=1)
        self.target = (corner + inside).ravel()
        self.source = (corner + inside[permutation]).ravel()

    def change(self, volume: np.ndarray) -> np.ndarray:
        shuffled = volume.copy(order="C")
        for original, channel in zip(volume, shuffled, strict=True):
            # One-dimensional indices: only for these does numpy promise that the last of two writes stays.
            channel.reshape(-1)[self.target] = original.reshape(-1)[self.source]
        return shuffled


class RandLocalShuffled(RandKeyedTransform):
    """Dictionary version of `RandLocalShuffle`; volumes of several keys have one shape and get the same boxes."""

    def __init__(
        self,
        keys: KeysCollection,
        density: float = 0.515,
        box_fraction: float = 0.05,
        prob: float = 0.8,
        allow_missing_keys: bool = False,
    ) -> None:
        transform = RandLocalShuffle(density=density, box_fraction=box_fraction, prob=prob)
        super().__init__(keys, transform, allow_missing_keys)
