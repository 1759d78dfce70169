# SPDX-License-Identifier: Apache-2.0
"""Label maps: from the values of a data set to classes and back, and whether they lie on their image's grid."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type

from ..volumes import VolumeError

GRID_TOLERANCE = 1e-3  # of every entry of the affine, millimetres


class EncodeLabelsd(MapTransform):
    """
    Values of a data set's label maps -> classes: 0 for the background, 1 to K for the structures in their order.

    Args:
        keys: keys of label maps (1, *spatial).
        labels: structure -> value, in the order of the classes.
        background: values that count as background, beside 0.
        allow_missing_keys: whether an item may lack a key.

    Raises:
        ValueError: no structures, or a value that is declared twice (0 is background).
        VolumeError: when called on a map with an undeclared value; names the file, the values and the declared ones.
    """

    def __init__(
        self,
        keys: KeysCollection,
        labels: Mapping[str, int],
        background: Sequence[int] = (),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.labels, self.background = dict(labels), sorted({0, *background})
        pairs = [(value, 0) for value in self.background]
        pairs += [(value, place) for place, value in enumerate(self.labels.values(), start=1)]
        values, classes = zip(*sorted(pairs), strict=True)
        if not self.labels or len(set(values)) < len(values):
            raise ValueError(f"labels are {self.labels}, background {self.background}, expected different values")
        self.values = torch.tensor(values, dtype=torch.float32)
        self.classes = torch.tensor(classes, dtype=torch.float32)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            label = torch.as_tensor(item[key]).float()
            plain = label.as_tensor() if isinstance(label, MetaTensor) else label
            place = torch.bucketize(plain, self.values).clamp(max=len(self.values) - 1)
            unknown = self.values[place] != plain
            if unknown.any():
                found = [f"{value:g}" for value in plain[unknown].unique().tolist()]
                raise VolumeError(
                    f"{_file(item[key], key)}: label values {', '.join(found)} in {int(unknown.sum())} voxels, "
                    f"expected those of {self.labels} or of the background {self.background}"
                )
            item[key] = convert_to_dst_type(self.classes[place], label)[0]
        return item


class DecodeLabelsd(MapTransform):
    """
    Classes 0 to K -> values of the data set, the inverse of `EncodeLabelsd` but for what it made background.

    Args:
        keys: keys of maps of classes. labels: structure -> value, in the order of the classes.
        allow_missing_keys: whether an item may lack a key.
    """

    def __init__(self, keys: KeysCollection, labels: Mapping[str, int], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.values = torch.tensor([0, *labels.values()], dtype=torch.int32)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            classes = item[key].as_tensor() if isinstance(item[key], MetaTensor) else item[key]
            values = self.values.to(classes.device)[classes.long()]
            item[key] = convert_to_dst_type(values, item[key], dtype=torch.int32)[0]
        return item


class SameGridd(MapTransform):
    """
    Refuses volumes that do not lie on the same voxels.

    Args:
        keys: keys of volumes (1, *spatial) with affines; each is compared with the first.
        allow_missing_keys: whether an item may lack a key.

    Raises:
        VolumeError: when called on shapes that differ, or affines (mm) that do so by more than 1e-3; names both files.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        keys = list(self.key_iterator(item))
        for key in keys[1:]:
            first, other = item[keys[0]], item[key]
            names = f"{_file(other, key)} and {_file(first, keys[0])}"
            if other.shape[1:] != first.shape[1:]:
                shapes = f"{tuple(other.shape[1:])} and {tuple(first.shape[1:])}"
                raise VolumeError(f"{names}: grids of shape {shapes}, expected the same one")
            affines = [np.asarray(volume.affine, dtype=np.float64) for volume in (other, first)]
            if np.abs(affines[0] - affines[1]).max() > GRID_TOLERANCE:
                listed = " and ".join(str(affine.round(4).tolist()) for affine in affines)
                raise VolumeError(f"{names}: grids with affine {listed}, expected the same one")
        return item


def _file(volume: Any, key: Hashable) -> str:
    return str(getattr(volume, "meta", {}).get("filename_or_obj", f"key {key!r}"))
