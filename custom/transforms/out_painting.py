# SPDX-License-Identifier: Apache-2.0
"""Out-painting: a volume becomes uniform noise except in a few boxes, and is to be restored (Models Genesis)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .appearance import RandKeyedTransform, check_floating
from .painting import RandPainting


class RandOutPainting(RandPainting):
    """Replace a volume (C, *spatial) in [0, 1] by uniform noise in [0, 1], except in up to `max_boxes` boxes.

    The union of the boxes is not changed. The defaults are those of the code of Models Genesis, where `prob` is called
    paint rate.

    The arguments are those of `RandPainting`.
    """

    def __init__(
        self,
        max_boxes: int = 5,
        box_fraction: tuple[float, float] = (3 / 7, 4 / 7),
        next_box_prob: float = 0.95,
        prob: float = 0.9,
    ) -> None:
        super().__init__(max_boxes, box_fraction, next_box_prob, prob)
        self.noise = np.empty(0, dtype=np.float32)

    def draw(self, shape: Sequence[int]) -> None:
        """Draw the boxes, then noise for the whole volume."""
        self.boxes = list(self.draw_boxes(shape[1:]))
        self.noise = self.R.random_sample(tuple(shape[1:])).astype(np.float32)

    def change(self, volume: np.ndarray) -> np.ndarray:
        check_floating(volume)
        painted = np.broadcast_to(self.noise, volume.shape).astype(volume.dtype)
        for box in self.boxes:
            inside = (slice(None), *box)
            painted[inside] = volume[inside]
        return painted


class RandOutPaintingd(RandKeyedTransform):
    """Dictionary version of `RandOutPainting`, with the same boxes for the volumes of all keys."""

    array_transform = RandOutPainting
