# SPDX-License-Identifier: Apache-2.0
"""Images of several channels, such as the sequences of an MR: one file of four dimensions, or one file a channel.

Where this package speaks of an image, it is the path of a file or DICOM folder, or a list of paths, one a channel.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.utils import MetaKeys

from .geometry import VolumeError
from .grid import check_same_grid
from .read import check_file, load_volume

Image = str | os.PathLike | Sequence[str | os.PathLike]


def is_image(value: Any) -> bool:
    """Whether a value is a path or a list of paths."""
    paths = value if isinstance(value, (list, tuple)) and value else [value]
    return all(isinstance(path, (str, os.PathLike)) for path in paths)


def paths_of(image: Image) -> list[str]:
    """The path of an image, or those of its channels."""
    return [os.fspath(path) for path in ([image] if isinstance(image, (str, os.PathLike)) else image)]


def image_name(image: Image) -> str:
    """An image in messages: its path, or that of its first channel."""
    return paths_of(image)[0]


def load_image(image: Image, channels: int = 1) -> MetaTensor:
    """
    Load an image.

    Args:
        image: a path, see `load_volume`, or a list of paths, one a channel, on one voxel grid.
        channels: number of its channels.

    Returns:
        A MetaTensor (channels, *spatial), see `load_volume`; of several files with the grid and name of the first.

    Raises:
        VolumeError: see `load_volume`; or there are more or fewer files than channels, or they differ in their grid.
    """
    paths = _checked_paths(image, channels)
    if len(paths) == 1:
        return load_volume(paths[0], channels=channels)
    first, *others = (load_volume(path) for path in paths)
    for other in others:
        check_same_grid(other, first, "channel")
    stacked = torch.cat([volume.as_tensor() for volume in (first, *others)])
    meta = {key: value for key, value in first.meta.items() if key != MetaKeys.AFFINE}
    return MetaTensor(stacked, affine=first.affine, meta=meta)


def check_image(image: Image, channels: int = 1, header_only: bool = False) -> None:
    """
    Check the files of an image, see `check_file`; whether its channels have one grid is known when they are loaded.

    Args:
        image: see `load_image`.
        channels: see `load_image`.
        header_only: see `check_file`.

    Raises:
        VolumeError: see `check_file`; or there are more or fewer files than channels.
    """
    paths = _checked_paths(image, channels)
    for path in paths:
        check_file(path, header_only=header_only, channels=channels if len(paths) == 1 else 1)


def _checked_paths(image: Image, channels: int) -> list[str]:
    paths = paths_of(image)
    if len(paths) not in (1, channels):
        raise VolumeError(f"{', '.join(paths)}: {len(paths)} files, expected {channels}, one a channel (in_channels)")
    return paths
