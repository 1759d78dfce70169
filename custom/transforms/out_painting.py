# SPDX-License-Identifier: Apache-2.0
"""Out-painting: uniform noise around a few boxes that stay, to be restored from what is inside (Models Genesis)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import RandomizableTransform
from monai.utils import convert_data_type, convert_to_dst_type

from .keyed import RandKeyedTransform

__all__ = ["RandOutPainting", "RandOutPaintingd"]


class RandOutPainting(RandomizableTransform):
    """Replace a volume (C, *spatial) in [0, 1] by uniform noise in [0, 1], except in up to `max_boxes` boxes.

    What is kept is the union of the boxes. An applied transform has one box at least; each further one comes with
    `next_box_prob`, and the first failure ends the row. The defaults are the code of Models Genesis, except for its
    margin of three voxels to the border, which small volumes do not have; `prob` is its paint rate. Channels share the
    noise.

    Args:
        max_boxes: largest number of boxes.
        box_fraction: smallest and largest side of a box over the side of the volume, drawn for each axis; at least
            1 voxel.
        next_box_prob: probability of each further box.
        prob: probability of applying the transform.
    """

    def __init__(
        self,
        max_boxes: int = 5,
        box_fraction: tuple[float, float] = (3 / 7, 4 / 7),
        next_box_prob: float = 0.95,
        prob: float = 0.9,
    ) -> None:
        RandomizableTransform.__init__(self, prob)
        if max_boxes < 1:
            raise ValueError(f"max_boxes must be 1 or more, got {max_boxes}")
        if not 0 < box_fraction[0] <= box_fraction[1] <= 1:
            raise ValueError(f"box_fraction must be two rising numbers in (0, 1], got {tuple(box_fraction)}")
        if not 0 <= next_box_prob <= 1:
            raise ValueError(f"next_box_prob must be in [0, 1], got {next_box_prob}")
        self.max_boxes = max_boxes
        self.box_fraction = tuple(box_fraction)
        self.next_box_prob = next_box_prob
        self.boxes: list[tuple[slice, ...]] = []
        self.noise = np.empty(0, dtype=np.float32)

    def randomize(self, spatial_shape: Sequence[int]) -> None:
        """Draw the boxes and noise for the whole volume."""
        super().randomize(None)
        if not self._do_transform:
            return
        self.boxes = []
        while not self.boxes or (len(self.boxes) < self.max_boxes and self.R.random_sample() < self.next_box_prob):
            self.boxes.append(tuple(self._draw_extent(side) for side in spatial_shape))
        self.noise = self.R.random_sample(tuple(spatial_shape)).astype(np.float32)

    def _draw_extent(self, side: int) -> slice:
        """Place and length of a box along an axis of `side` voxels."""
        smallest, largest = (max(1, math.floor(side * fraction + 1e-6)) for fraction in self.box_fraction)
        length = self.R.randint(smallest, largest + 1)
        start = self.R.randint(0, side - length + 1)
        return slice(start, start + length)

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        if randomize:
            self.randomize(img.shape[1:])
        if not self._do_transform:
            return img
        volume, *_ = convert_data_type(img, np.ndarray)
        if not np.issubdtype(volume.dtype, np.floating):
            raise TypeError(f"intensities must be floating point in [0, 1], got dtype {volume.dtype}")
        painted = np.broadcast_to(self.noise, volume.shape).astype(volume.dtype)
        for box in self.boxes:
            inside = (slice(None), *box)
            painted[inside] = volume[inside]
        return convert_to_dst_type(painted, img)[0]


class RandOutPaintingd(RandKeyedTransform):
    """Dictionary version of `RandOutPainting`; volumes of several keys have one shape and get the same boxes."""

    def __init__(
        self,
        keys: KeysCollection,
        max_boxes: int = 5,
        box_fraction: tuple[float, float] = (3 / 7, 4 / 7),
        next_box_prob: float = 0.95,
        prob: float = 0.9,
        allow_missing_keys: bool = False,
    ) -> None:
        transform = RandOutPainting(
            max_boxes=max_boxes, box_fraction=box_fraction, next_box_prob=next_box_prob, prob=prob
        )
        super().__init__(keys, transform, allow_missing_keys)
