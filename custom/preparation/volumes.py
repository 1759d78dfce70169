# SPDX-License-Identifier: Apache-2.0
"""The preprocessing that the data sets share: RAS, a box, 1 mm, HU window, NIfTI files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from monai.data import MetaTensor
from monai.transforms import Compose, CropForegroundd, MapTransform, Orientationd, Spacingd
from numpy.typing import DTypeLike

from ..volumes import write_volume

HU_WINDOW = (-1024, 1024)  # the same for every CT data set
SPACING = (1.0, 1.0, 1.0)  # mm


class MarginCropd(MapTransform):
    """Crop to the foreground of one key and a margin in millimetres; the margin ends at the border of the volume.

    Args:
        keys: keys of the volumes to crop.
        source_key: key of the label map or mask; values above zero are foreground.
        margin: millimetres on each side.
    """

    def __init__(self, keys: Sequence[str], source_key: str, margin: float) -> None:
        super().__init__(keys)
        self.source_key = source_key
        self.margin = margin

    def __call__(self, data: dict) -> dict:
        spacing = np.linalg.norm(np.asarray(data[self.source_key].affine)[:3, :3], axis=0)
        margin = [int(np.ceil(self.margin / size)) for size in spacing]
        return CropForegroundd(self.keys, source_key=self.source_key, margin=margin, allow_smaller=True)(data)


def to_ras(keys: Sequence[str]) -> Orientationd:
    """The transform to axes that point to the right, to the front (anterior) and to the top (superior): RAS."""
    return Orientationd(keys, axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))


def to_spacing(keys: Sequence[str], spacing: Sequence[float], label_mode: str = "nearest") -> Spacingd:
    """The transform that resamples volumes.

    Args:
        keys: keys of the volumes; the key "image" is interpolated linearly, every other one as `label_mode` says.
        spacing: voxel size in millimetres.
        label_mode: "nearest" or "bilinear".
    """
    mode = ["bilinear" if key == "image" else label_mode for key in keys]
    return Spacingd(keys, pixdim=spacing, mode=mode)


def prepared(item: dict, *transforms, window: tuple[float, float] | None = HU_WINDOW) -> dict[str, MetaTensor]:
    """Apply transforms to an item and clip its image.

    Args:
        item: key -> path of a volume.
        transforms: transforms of the item, in their order.
        window: smallest and largest value of the image in HU; None if the values are not HU.
    """
    item = Compose(transforms)(item)
    if window is not None:
        item["image"] = item["image"].clamp(*window)
    return item


def save_volume(path: Path, volume: MetaTensor, dtype: DTypeLike = np.int16) -> None:
    """Write a volume (1, *spatial) as NIfTI; values are rounded for integer types, a sheared grid is allowed."""
    array = volume[0].numpy()
    array = (np.round(array) if np.issubdtype(dtype, np.integer) else array).astype(dtype)
    write_volume(path, array, np.asarray(volume.affine), allow_shear=True)
