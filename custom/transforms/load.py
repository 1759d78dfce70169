# SPDX-License-Identifier: Apache-2.0
"""Loading the volumes of an item."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import ensure_tuple

from ..volumes import VolumeError, image_name, is_image, load_image, load_volume, on_grid_of


class CheckedLoadImaged(MapTransform):
    """
    Load and check one 3D volume for each key: a path becomes a MetaTensor (channels, *spatial); see `load_volume`.

    Args:
        keys: keys of paths. Of an image it may be a list of paths, one for each channel; see `load_image`.
        label_keys: keys of label maps. The volume of the key `label` must have the voxel grid of the key `image`, and
            `NAME_label` that of `NAME`, if the item has both; then it gets the affine of the image.
        allow_missing_keys: whether an item may lack a key, for volumes without labels.
        channels: number of channels of the images; label maps have one.

    Raises:
        ValueError: `label_keys` are not among `keys`.
        VolumeError: when called: a file cannot be used; the message names it.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_keys: KeysCollection = (),
        allow_missing_keys: bool = False,
        channels: int = 1,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.channels = channels
        self.label_keys = ensure_tuple(label_keys)
        if not set(self.label_keys) <= set(self.keys):
            raise ValueError(f"label_keys {self.label_keys} must be among keys {self.keys}")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            is_label = key in self.label_keys
            if not is_image(item[key]) or (is_label and isinstance(item[key], (list, tuple))):
                of = "" if key == "image" or "image" not in data else f"{image_name(data['image'])}: "
                found = f"{item[key]!r} of type {type(item[key]).__name__}"
                raise VolumeError(f"{of}key {key!r} is {found}, expected the path of one volume")
            item[key] = load_volume(item[key], is_label) if is_label else load_image(item[key], self.channels)
        for key in self.label_keys:
            image_key = "image" if key == "label" else str(key).removesuffix("_label")
            if image_key != key and key in item and image_key in self.keys and image_key in item:
                item[key] = on_grid_of(item[key], item[image_key])
        return item
