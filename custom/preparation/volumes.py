# SPDX-License-Identifier: Apache-2.0
"""The preprocessing that all data sets share: RAS, a box, 1 mm, HU window, int16 files that appear whole."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
from monai.data import MetaTensor
from monai.transforms import Compose, CropForegroundd, MapTransform, Orientationd, Spacingd

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


def to_spacing(keys: Sequence[str], spacing: Sequence[float]) -> Spacingd:
    """Resamples: key `image` linearly, label maps and masks by the nearest voxel."""
    mode = ["bilinear" if key == "image" else "nearest" for key in keys]
    return Spacingd(keys, pixdim=spacing, mode=mode)


def prepared(item: dict, *transforms) -> dict[str, MetaTensor]:
    """The item after transforms, its image clipped to the HU window."""
    item = Compose(transforms)(item)
    item["image"] = item["image"].clamp(*HU_WINDOW)
    return item


def save_volume(path: Path, volume: MetaTensor) -> None:
    """(1, *spatial) as int16 NIfTI in millimetres; written under another name first and then renamed."""
    array = np.round(volume[0].numpy()).astype(np.int16)
    nifti = nibabel.Nifti1Image(array, np.asarray(volume.affine))
    nifti.header.set_xyzt_units("mm")
    nifti.set_qform(nifti.affine, code=1)
    nifti.set_sform(nifti.affine, code=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    nibabel.save(nifti, temporary)
    os.replace(temporary, path)
