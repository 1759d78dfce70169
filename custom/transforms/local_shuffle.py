# SPDX-License-Identifier: Apache-2.0
"""Local voxel shuffling (Models Genesis; step 3 of GVSL), with one permutation for each box."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .appearance import RandAppearanceTransform, RandKeyedTransform


def shuffle_box_size(spatial_shape: Sequence[int], box_fraction: float) -> tuple[int, ...]:
    """Sides of a box in voxels: a fraction of each side of the volume, rounded down, but at least 2 if the side has 2.

    The authors' floor(side / 20) is 0 or 1 below 40 voxels; then their shuffling has no effect.
    """
    return tuple(min(side, max(2, math.floor(side * box_fraction + 1e-6))) for side in spatial_shape)


class RandLocalShuffle(RandAppearanceTransform):
    """Shuffle the voxels inside many small boxes of a volume (C, *spatial).

    Each box takes its values from the original volume; where boxes overlap, the later box counts. All channels have
    the same permutations. The number of boxes is round(density * voxels / voxels of a box), at least 1. The authors'
    5000 boxes of 6^3 voxels in 128^3 voxels are a density of 0.515, which changes 1 - exp(-0.515) = 40 % of the
    voxels. The authors use one permutation for all boxes; the paper (after Models Genesis) has one for each box, and
    so has this class. MONAI's RandCoarseShuffle differs: it changes its input, shuffles overlaps twice and draws
    during the computation.

    Args:
        density: number of boxes times their voxels, divided by the voxels of the volume.
        box_fraction: side of a box as a fraction of the side of the volume; see `shuffle_box_size`.
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

    def draw(self, shape: Sequence[int]) -> None:
        """Draw the flat indices that are read (`source`) and written (`target`), box after box."""
        spatial_shape = shape[1:]
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
            # one-dimensional indices, because only with them NumPy guarantees that the last of two writes counts
            channel.reshape(-1)[self.target] = original.reshape(-1)[self.source]
        return shuffled


class RandLocalShuffled(RandKeyedTransform):
    """Dictionary version of `RandLocalShuffle`, with the same boxes for the volumes of all keys."""

    array_transform = RandLocalShuffle
