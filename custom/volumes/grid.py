# SPDX-License-Identifier: Apache-2.0
"""Volumes that belong on one voxel grid."""

from __future__ import annotations

import numpy as np
from monai.data import MetaTensor
from monai.utils import MetaKeys

from .geometry import VolumeError


def check_same_grid(label: MetaTensor, image: MetaTensor) -> None:
    """Check that a label map lies on the voxels of its image: equal shape, all corners at most half a voxel apart.

    Args:
        label: (1, *spatial) from `load_volume`.
        image: (1, *spatial) from `load_volume`.

    Raises:
        VolumeError: shapes or corners differ; the message names both files.
    """
    label_name, image_name = (volume.meta.get("filename_or_obj", "no file name") for volume in (label, image))
    if label.shape != image.shape:
        raise VolumeError(
            f"{label_name}: label map of shape {tuple(label.shape[1:])}, expected {tuple(image.shape[1:])}, the shape "
            f"of {image_name}"
        )
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in image.shape[1:]], indexing="ij")).reshape(3, -1)
    affine = np.asarray(image.affine)
    difference = np.asarray(label.affine) - affine
    distance = np.linalg.norm(difference[:3, :3] @ corners + difference[:3, 3:], axis=0).max()
    if distance > 0.5 * np.linalg.norm(affine[:3, :3], axis=0).min():
        raise VolumeError(f"{label_name}: label map lies up to {distance:.2f} mm off the voxels of {image_name}")


def on_grid_of(label: MetaTensor, image: MetaTensor) -> MetaTensor:
    """The label map with the affine of its image, after `check_same_grid`: both are then resampled to one grid."""
    check_same_grid(label, image)
    affine = image.affine.clone()
    meta = {key: value for key, value in label.meta.items() if key != MetaKeys.AFFINE}
    meta[MetaKeys.ORIGINAL_AFFINE] = affine.numpy().copy()
    return MetaTensor(label.as_tensor(), affine=affine, meta=meta)
