# SPDX-License-Identifier: Apache-2.0
"""The class of a volume: from the value of a data set to the place of the class among the outputs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..volumes import VolumeError


class EncodeClassd(MapTransform):
    """
    Value of a volume's class in the data set -> 0 to K - 1, in the order of `labels`.

    Args:
        keys: keys of whole numbers.
        labels: class -> value in the data set, in the order of the network's outputs.
        allow_missing_keys: whether an item may lack a key.

    Raises:
        ValueError: fewer than two classes, or a value that is declared twice.
        VolumeError: when called on a value that is not declared, or no whole number (such as the path of a label map);
            names the image.
    """

    def __init__(self, keys: KeysCollection, labels: Mapping[str, int], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.labels = dict(labels)
        self.places = {value: place for place, value in enumerate(self.labels.values())}
        if len(self.places) < max(2, len(self.labels)):
            raise ValueError(f"labels are {self.labels}, expected two classes or more with different values")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            value = item[key]
            if isinstance(value, (bool, str)) or value not in self.places:
                name = getattr(item.get("image"), "meta", {}).get("filename_or_obj", item.get("image"))
                raise VolumeError(f"{name}: {key} is {value!r}, expected one of {self.labels}")
            item[key] = self.places[value]
        return item
