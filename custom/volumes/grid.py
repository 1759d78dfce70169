# SPDX-License-Identifier: Apache-2.0
"""Volumes that belong on one voxel grid."""

from __future__ import annotations

import numpy as np
from monai.data import MetaTensor
from monai.utils import MetaKeys

from .geometry import VolumeError
from .metadata import file_name


def check_same_grid(volume: MetaTensor, image: MetaTensor, what: str = "label map") -> None:
    """Check that a volume lies on the voxels of an image: equal shape, all corners at most half a voxel apart.

    Args:
        volume: (channels, *spatial) from `load_volume`.
        image: (channels, *spatial) from `load_volume`.
        what: the volume, for the message.

    Raises:
        VolumeError: shapes or corners differ; the message names both files.
    """
    name, image_name = map(file_name, (volume, image))
    if volume.shape[1:] != image.shape[1:]:
        raise VolumeError(
            f"{name}: {what} of shape {tuple(volume.shape[1:])}, expected {tuple(image.shape[1:])}, the shape of "
            f"{image_name}"
        )
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in image.shape[1:]], indexing="ij")).reshape(3, -1)
    affine = np.asarray(image.affine)
    difference = np.asarray(volume.affine) - affine
    distance = np.linalg.norm(difference[:3, :3] @ corners + difference[:3, 3:], axis=0).max()
    if distance > 0.5 * np.linalg.norm(affine[:3, :3], axis=0).min():
        raise VolumeError(f"{name}: {what} lies up to {distance:.2f} mm off the voxels of {image_name}")


def on_grid_of(label: MetaTensor, image: MetaTensor) -> MetaTensor:
    """The label map with the affine of its image, after `check_same_grid`: both are then resampled to one grid."""
    check_same_grid(label, image)
    affine = image.affine.clone()
    meta = {key: value for key, value in label.meta.items() if key != MetaKeys.AFFINE}
    meta[MetaKeys.ORIGINAL_AFFINE] = affine.numpy().copy()
    return MetaTensor(label.as_tensor(), affine=affine, meta=meta)
