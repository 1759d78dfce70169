# SPDX-License-Identifier: Apache-2.0
"""Random crop of a pair of volumes at one relative position, as GVSL crops its pairs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable, SpatialCrop
from monai.utils import ensure_tuple_rep

from ..volumes import VolumeError, file_name


class RandRelativeCropd(Randomizable, MapTransform):
    """
    Crop all volumes at one relative position r in [0, 1)^3, drawn once per call: start = round(r * (size - roi_size)).

    The volumes of a pair may differ in size. A label map has the size of its image and therefore the same start. The
    result is a copy, which may be changed in place. For validation, MONAI's SpatialPadd and CenterSpatialCropd cut the
    centre of every volume.

    Args:
        keys: keys of volumes (channels, *spatial).
        roi_size: size of the crop in voxels, one number or one per axis (array order).
        allow_missing_keys: whether an item may lack a key.

    Raises:
        ValueError: `roi_size` is not positive.
        VolumeError: when called: a volume is smaller than `roi_size`.
    """

    def __init__(self, keys: KeysCollection, roi_size: Sequence[int] | int, allow_missing_keys: bool = False) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.roi_size = tuple(int(size) for size in ensure_tuple_rep(roi_size, 3))
        if min(self.roi_size) < 1:
            raise ValueError(f"roi_size must be positive on every axis, got {self.roi_size}")
        self.relative_start = np.zeros(3)

    def randomize(self, data: Any = None) -> None:
        self.relative_start = self.R.random_sample(3)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        self.randomize()
        for key in self.key_iterator(item):
            volume = item[key]
            size = tuple(volume.shape[1:])
            if len(size) != 3 or any(side < wanted for side, wanted in zip(size, self.roi_size, strict=True)):
                file = file_name(volume)
                raise VolumeError(
                    f"{key} ({file}): volume of size {size} is smaller than the crop {self.roi_size}; pad it in the "
                    "preprocessing (SpatialPadd) or choose a smaller roi_size"
                )
            start = np.round(self.relative_start * np.subtract(size, self.roi_size)).astype(int)
            end = start + self.roi_size
            if isinstance(volume, MetaTensor):  # SpatialCrop adapts the affine
                crop = SpatialCrop(roi_start=start, roi_end=end)(volume)
            else:
                crop = volume[(slice(None), *map(slice, start, end))]
            item[key] = crop.clone(memory_format=torch.contiguous_format)
        return item
