# SPDX-License-Identifier: Apache-2.0
"""The preprocessing that the data sets share: RAS, a box, 1 mm, HU window, files that appear whole."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
from monai.data import MetaTensor
from monai.transforms import Compose, CropForegroundd, MapTransform, Orientationd, Spacingd
from numpy.typing import DTypeLike

HU_WINDOW = (-1024, 1024)  # method.md: every CT
SPACING = (1.0, 1.0, 1.0)  # mm


class MarginCropd(MapTransform):
    """Crops to the foreground of one key and a margin in millimetres, cut at the border of the volume.

    Args:
        keys: what to crop. source_key: the label map or mask (above zero is foreground). margin: mm on each side.
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
    """Axes to the right, anterior, superior."""
    return Orientationd(keys, axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))


def to_spacing(keys: Sequence[str], spacing: Sequence[float], label_mode: str = "nearest") -> Spacingd:
    """Resamples: key `image` linearly, label maps and masks by the nearest voxel (or `label_mode`)."""
    mode = ["bilinear" if key == "image" else label_mode for key in keys]
    return Spacingd(keys, pixdim=spacing, mode=mode)


def prepared(item: dict, *transforms, window: tuple[float, float] | None = HU_WINDOW) -> dict[str, MetaTensor]:
    """The item after transforms, its image clipped to the HU window (None where the numbers are no HU)."""
    item = Compose(transforms)(item)
    if window is not None:
        item["image"] = item["image"].clamp(*window)
    return item


def save_volume(path: Path, volume: MetaTensor, dtype: DTypeLike = np.int16) -> None:
    """(1, *spatial) as NIfTI in millimetres, rounded for integer types; written under another name, then renamed."""
    array = volume[0].numpy()
    array = (np.round(array) if np.issubdtype(dtype, np.integer) else array).astype(dtype)
    nifti = nibabel.Nifti1Image(array, np.asarray(volume.affine))
    nifti.header.set_xyzt_units("mm")
    nifti.set_qform(nifti.affine, code=1)
    nifti.set_sform(nifti.affine, code=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    nibabel.save(nifti, temporary)
    os.replace(temporary, path)
