# SPDX-License-Identifier: Apache-2.0
"""The class of a volume: from its value in a data set to the index of the network's output."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..volumes import VolumeError, file_name


class EncodeClassd(MapTransform):
    """
    Convert the value of a class in a data set to its index, 0 to K - 1, in the order of `labels`.

    Args:
        keys: keys of whole numbers.
        labels: class -> value in the data set, in the order of the network's outputs.
        allow_missing_keys: whether an item may lack a key.

    Raises:
        ValueError: there are fewer than two classes, or two classes have one value.
        VolumeError: when called: the value is not in `labels`, or is no whole number (such as the path of a label map);
            the message names the image.
    """

    def __init__(self, keys: KeysCollection, labels: Mapping[str, int], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.labels = dict(labels)
        self.index_of = {value: index for index, value in enumerate(self.labels.values())}
        if len(self.index_of) < max(2, len(self.labels)):
            raise ValueError(f"labels are {self.labels}, expected two classes or more with different values")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            value = item[key]
            if isinstance(value, (bool, str)) or value not in self.index_of:
                name = file_name(item.get("image"), item.get("image"))
                raise VolumeError(f"{name}: {key} is {value!r}, expected one of {self.labels}")
            item[key] = self.index_of[value]
        return item
