# SPDX-License-Identifier: Apache-2.0
"""A data set of one pair: the two files to register."""

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

from ..transforms import CheckedLoadImaged
from ..volumes import Image, image_name, paths_of, whole_numbers


class CommonSized(MapTransform):
    """
    Pad (with zeros) or crop volumes about their centres to one size: along each axis that of the largest volume.

    Args:
        keys: keys of MetaTensors (channels, *spatial); their affines are adapted.
        max_size: largest size in voxels, one number or one per axis (array order), to limit the memory; None for no
            limit.

    Raises:
        ValueError: a largest size is not a whole number above 0.
    """

    def __init__(self, keys: KeysCollection, max_size: Sequence[int] | int | None = None) -> None:
        super().__init__(keys)
        self.max_size = None if max_size is None else ensure_tuple_rep(max_size, 3)
        if self.max_size and not all(isinstance(size, int) and size > 0 for size in self.max_size):
            raise ValueError(f"max_size is {max_size}, expected whole numbers of voxels above 0, one or three")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        size = np.max([item[key].shape[1:] for key in self.keys], axis=0)
        if self.max_size is not None:
            size = np.minimum(size, self.max_size)
        resize = ResizeWithPadOrCrop(size.tolist())
        return item | {key: resize(item[key]) for key in self.keys}


class RegistrationPair(Dataset):
    """
    A data set of one item: the preprocessed pair, with its affines. `files` has its paths.

    The item holds:
        "moving", "fixed": plain tensors (channels, *spatial) of one size.
        "moving_transformed": the same tensor as "moving", because nothing is damaged.
        "moving_affine", "fixed_affine": (4, 4), float64, from voxels of these tensors to millimetres, RAS.
        "moving_file", "fixed_file", "moving_label_file", "fixed_label_file": paths, of several channels that of the
            first; the labels only if they exist.
        "moving_file_affine", "fixed_file_affine": (4, 4), float64, from voxels of the file to millimetres, RAS.
        "fixed_file_shape": (3,), number of voxels of the fixed file along each axis.
        "moving_file_label", "fixed_file_label": (*spatial), whole numbers, on the grids of the files of the images;
            only if they exist.
        "index", "seed": 0.

    Args:
        moving: path of the moving volume, in any format, orientation and spacing that `load_volume` reads, or a list of
            paths, one a channel.
        fixed: the same of the fixed volume.
        transform: preprocessing of an item with the keys moving and fixed; `CheckedLoadImaged` first,
            `CommonSized` last.
        moving_label: path of a label map on the grid of the moving volume, or None.
        fixed_label: path of a label map on the grid of the fixed volume, or None.
        dataset_dir: folder of relative paths.

    Raises (when the item is read):
        ValueError: a path is missing.
        VolumeError: a file cannot be used.
    """

    def __init__(
        self,
        moving: Image | None,
        fixed: Image | None,
        transform: Compose | Sequence[Callable],
        moving_label: str | None = None,
        fixed_label: str | None = None,
        dataset_dir: str = "",
    ) -> None:
        paths = {"moving": moving, "fixed": fixed, "moving_label": moving_label, "fixed_label": fixed_label}
        self.files: dict[str, Image] = {}
        for key, image in paths.items():
            if image is not None:
                folder = os.path.expanduser(dataset_dir)
                full = [os.path.normpath(os.path.join(folder, os.path.expanduser(path))) for path in paths_of(image)]
                self.files[key] = full[0] if len(full) == 1 else tuple(full)
        self.transform = Compose(transform) if not isinstance(transform, Compose) else transform
        loaders = [step for step in self.transform.flatten().transforms if isinstance(step, CheckedLoadImaged)]
        self.channels = loaders[0].channels if loaders else 1

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index != 0:
            raise IndexError(f"index is {index}, expected 0: one pair")
        for key in ("moving", "fixed"):
            if key not in self.files:
                raise ValueError(f"{key} is not given, expected the path of a volume, --{key} FILE")
        if "fixed_label" in self.files and "moving_label" not in self.files:
            raise ValueError(f"fixed_label {self.files['fixed_label']} has no moving_label, expected both or neither")
        labels = {}
        for side in ("moving", "fixed"):
            key = f"{side}_label"
            if key in self.files:  # not in `transform`, because MONAI's Spacingd fails with a key moving_*
                loaded = CheckedLoadImaged((side, key), label_keys=key, channels=self.channels)(self.files)
                labels[f"{side}_file_label"] = torch.from_numpy(whole_numbers(loaded[key]))
        volumes = {side: self.files[side] for side in ("moving", "fixed")}
        for step in self.transform.flatten().transforms:  # one by one, because Compose hides the message of an error
            volumes = step(volumes)
        moving, fixed = volumes["moving"], volumes["fixed"]
        if moving.shape != fixed.shape:
            shapes = f"{tuple(moving.shape)} and {tuple(fixed.shape)}"
            raise ValueError(
                f"moving and fixed have shapes {shapes} after the preprocessing, expected one shape (CommonSized)"
            )
        return {
            "moving": moving.as_tensor(),
            "moving_transformed": moving.as_tensor(),
            "fixed": fixed.as_tensor(),
            "moving_affine": torch.as_tensor(moving.affine, dtype=torch.float64),
            "fixed_affine": torch.as_tensor(fixed.affine, dtype=torch.float64),
            "moving_file_affine": torch.as_tensor(moving.meta["original_affine"], dtype=torch.float64),
            "fixed_file_affine": torch.as_tensor(fixed.meta["original_affine"], dtype=torch.float64),
            "fixed_file_shape": torch.as_tensor(fixed.meta["spatial_shape"]),
            **labels,
            "index": index,
            "seed": 0,  # of the places of `GVSLPretext`
            **{f"{key}_file": image_name(image) for key, image in self.files.items()},
        }
