# SPDX-License-Identifier: Apache-2.0
"""In-painting: boxes of a volume become uniform noise, to be restored (Models Genesis; step 3 of GVSL)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .appearance import RandKeyedTransform, check_floating
from .painting import RandPainting


class RandInPainting(RandPainting):
    """Replace up to `max_boxes` boxes of a volume (C, *spatial) in [0, 1] by uniform noise in [0, 1].

    In the authors' code the first box has the probability of each further one; therefore `prob` is 0.95 by default.

    The arguments are those of `RandPainting`.
    """

    def __init__(
        self,
        max_boxes: int = 30,
        box_fraction: tuple[float, float] = (0.1, 0.2),
        next_box_prob: float = 0.95,
        prob: float = 0.95,
    ) -> None:
        super().__init__(max_boxes, box_fraction, next_box_prob, prob)
        self.noise: list[np.ndarray] = []

    def draw(self, shape: Sequence[int]) -> None:
        """Draw each box and the noise inside it."""
        self.boxes, self.noise = [], []
        for box in self.draw_boxes(shape[1:]):
            self.boxes.append(box)
            self.noise.append(self.R.random_sample([extent.stop - extent.start for extent in box]).astype(np.float32))

    def change(self, volume: np.ndarray) -> np.ndarray:
        check_floating(volume)
        painted = volume.copy()
        for box, noise in zip(self.boxes, self.noise, strict=True):
            painted[(slice(None), *box)] = noise
        return painted


class RandInPaintingd(RandKeyedTransform):
    """Dictionary version of `RandInPainting`, with the same boxes for the volumes of all keys."""

    array_transform = RandInPainting
