# SPDX-License-Identifier: Apache-2.0
"""The boxes of in-painting and out-painting (Models Genesis)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from .appearance import RandAppearanceTransform


class RandPainting(RandAppearanceTransform):
    """Base class that draws boxes in a volume (C, *spatial) in [0, 1].

    An applied transform has at least one box. Each further box has the probability `next_box_prob`; after the first
    failure no more are drawn. Boxes may overlap; all channels have the same boxes and noise. The authors' margin of
    three voxels to the border is left out, because small volumes have no room for it.

    Args:
        max_boxes: largest number of boxes.
        box_fraction: smallest and largest side of a box as a fraction of the side of the volume, drawn for each axis;
            a side has at least 1 voxel.
        next_box_prob: probability of each further box.
        prob: probability of applying the transform.
    """

    def __init__(self, max_boxes: int, box_fraction: tuple[float, float], next_box_prob: float, prob: float) -> None:
        super().__init__(prob)
        if max_boxes < 1:
            raise ValueError(f"max_boxes must be 1 or more, got {max_boxes}")
        if not 0 < box_fraction[0] <= box_fraction[1] <= 1:
            raise ValueError(f"box_fraction must be two increasing numbers in (0, 1], got {tuple(box_fraction)}")
        if not 0 <= next_box_prob <= 1:
            raise ValueError(f"next_box_prob must be in [0, 1], got {next_box_prob}")
        self.max_boxes = max_boxes
        self.box_fraction = tuple(box_fraction)
        self.next_box_prob = next_box_prob
        self.boxes: list[tuple[slice, ...]] = []

    def draw_boxes(self, spatial_shape: Sequence[int]) -> Iterator[tuple[slice, ...]]:
        """Yield the boxes. Each is drawn when it is requested."""
        for number in range(self.max_boxes):
            if number and self.R.random_sample() >= self.next_box_prob:
                return
            yield tuple(self._draw_extent(side) for side in spatial_shape)

    def _draw_extent(self, side: int) -> slice:
        """Draw position and length of a box along an axis of `side` voxels."""
        smallest, largest = (max(1, math.floor(side * fraction + 1e-6)) for fraction in self.box_fraction)
        length = self.R.randint(smallest, largest + 1)
        start = self.R.randint(0, side - length + 1)
        return slice(start, start + length)
