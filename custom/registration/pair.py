# SPDX-License-Identifier: Apache-2.0
"""The two files to register as a data set of one pair."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import Compose, MapTransform, ResizeWithPadOrCrop
from monai.utils import ensure_tuple_rep
from torch.utils.data import Dataset

from ..transforms import LoadVolumed
from ..volumes import check_geometry


class CommonSized(MapTransform):
    """
    Pad (with zeros) or crop the volumes about their centres to one size, the largest of each axis.

    Args:
        keys: keys of MetaTensors (1, *spatial); their affines follow.
        max_size: limit of the size in voxels, one number or one per axis (array order), to bound the memory; volumes
            are cropped to it. None for no limit.
    """

    def __init__(self, keys: KeysCollection, max_size: Sequence[int] | int | None = None) -> None:
        super().__init__(keys)
        self.max_size = None if max_size is None else ensure_tuple_rep(max_size, 3)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        size = np.max([item[key].shape[1:] for key in self.keys], axis=0)
        if self.max_size is not None:
            size = np.minimum(size, self.max_size)
        resize = ResizeWithPadOrCrop(size.tolist())
        return item | {key: resize(item[key]) for key in self.keys}


class RegistrationPair(Dataset):
    """
    A data set of one item: the preprocessed pair, with what leads back to the files.

    The item holds plain tensors "moving", "fixed" and "moving_transformed" (the moving one again: no damage),
    (1, *spatial) of one size; "moving_affine" and "fixed_affine", (4, 4), float64, from their voxels to millimetres in
    RAS; the paths "moving_file", "fixed_file" and, where given, "moving_label_file" and "fixed_label_file"; "index" 0.

    Args:
        moving, fixed: paths of the volumes, of any format, orientation and spacing that `load_volume` reads.
        transform: preprocessing of an item with the keys moving and fixed; `LoadVolumed` first, `CommonSized` last.
        moving_label, fixed_label: paths of label maps on the grids of their volumes, or None; they are only checked.
        dataset_dir: folder that relative paths start from.

    Raises (when the item is read):
        ValueError: a path that is not given; a fixed image that ITK cannot represent (`check_geometry`).
        VolumeError: a file that cannot be used.
    """

    def __init__(
        self,
        moving: str | None,
        fixed: str | None,
        transform: Compose | Sequence[Callable],
        moving_label: str | None = None,
        fixed_label: str | None = None,
        dataset_dir: str = "",
    ) -> None:
        given = {"moving": moving, "fixed": fixed, "moving_label": moving_label, "fixed_label": fixed_label}
        self.files = {
            key: os.path.normpath(os.path.join(os.path.expanduser(dataset_dir), os.path.expanduser(path)))
            for key, path in given.items()
            if path is not None
        }
        self.transform = Compose(transform) if not isinstance(transform, Compose) else transform

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index != 0:
            raise IndexError(f"index is {index}, expected 0: one pair")
        for key in ("moving", "fixed"):
            if key not in self.files:
                raise ValueError(f"{key} is not given, expected the path of a volume, --{key} FILE")
        if "fixed_label" in self.files and "moving_label" not in self.files:
            raise ValueError(f"fixed_label {self.files['fixed_label']} has no moving_label to be compared with")
        for side in ("moving", "fixed"):
            label = f"{side}_label"
            if label in self.files:  # checked here, not in `transform`: MONAI's Spacingd stumbles over a key moving_*
                LoadVolumed((side, label), label_keys=label)(self.files)
        volumes = {side: self.files[side] for side in ("moving", "fixed")}
        for transform in self.transform.flatten().transforms:  # one by one: Compose would hide the error's message
            volumes = transform(volumes)
        moving, fixed = volumes["moving"], volumes["fixed"]
        check_geometry(np.asarray(fixed.meta["original_affine"]), self.files["fixed"])
        if moving.shape != fixed.shape:
            shapes = f"{tuple(moving.shape)} and {tuple(fixed.shape)}"
            raise ValueError(
                f"moving and fixed have shapes {shapes} after the preprocessing, expected one: CommonSized"
            )
        return {
            "moving": moving.as_tensor(),
            "moving_transformed": moving.as_tensor(),
            "fixed": fixed.as_tensor(),
            "moving_affine": torch.as_tensor(moving.affine, dtype=torch.float64),
            "fixed_affine": torch.as_tensor(fixed.affine, dtype=torch.float64),
            "index": index,
            **{f"{key}_file": path for key, path in self.files.items()},
        }
