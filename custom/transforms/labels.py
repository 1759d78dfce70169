# SPDX-License-Identifier: Apache-2.0
"""Label maps: conversion between values of a data set and classes, comparison of voxel grids."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type

from ..volumes import VolumeError, file_name, on_grid_of, without_metadata

BLOCK = 16  # planes whose values are looked up at once


class EncodeLabelsd(MapTransform):
    """
    Convert the values of a data set's label maps to classes: 0 for background, 1 to K for the structures in order.

    Args:
        keys: keys of label maps (1, *spatial).
        labels: structure -> value, in the order of the classes.
        background: values that count as background, in addition to 0.
        allow_missing_keys: whether an item may lack a key.

    Raises:
        ValueError: there are no structures, a value is declared twice (0 is background), or a value is no int32.
        VolumeError: when called: the map has other values; the message names the file, these values and the declared
            ones.
    """

    def __init__(
        self,
        keys: KeysCollection,
        labels: Mapping[str, int],
        background: Sequence[int] = (),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        _check_values([*labels.values(), *background])
        self.labels, self.background = dict(labels), sorted({0, *background})
        pairs = [(value, 0) for value in self.background]
        pairs += [(value, index) for index, value in enumerate(self.labels.values(), start=1)]
        self.values, self.classes = zip(*sorted(pairs), strict=True)  # no tensors: their pickles differ in each process
        if not self.labels or len(set(self.values)) < len(self.values):
            raise ValueError(f"labels are {self.labels}, background {self.background}, expected different values")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        values, classes = torch.tensor(self.values), torch.tensor(self.classes, dtype=torch.float32)
        for key in self.key_iterator(item):
            label = torch.as_tensor(item[key])
            plain = without_metadata(label)
            index = torch.bucketize(plain.long(), values).clamp(max=len(values) - 1)
            unknown = values[index] != plain
            if unknown.any():
                found = [str(int(v) if v == int(v) else v) for v in plain[unknown].unique().tolist()]
                name = file_name(label, f"key {key!r}")
                raise VolumeError(
                    f"{name}: label values {', '.join(found)} in {int(unknown.sum())} voxels, "
                    f"expected those of {self.labels} or of the background {self.background}"
                )
            item[key] = convert_to_dst_type(classes[index], label, dtype=torch.float32)[0]
        return item


class EncodeAbsentd(MapTransform):
    """
    Convert names of absent structures to a tensor for `custom.losses.MarginalLoss`: True for each absent class.

    Args:
        keys: keys of lists of names; the result is (1 + structures,), with False for the background.
        labels: structure -> value, in the order of the classes.
        allow_missing_keys: whether an item may lack a key.

    Raises:
        ValueError: when called: a name is not a structure.
    """

    def __init__(self, keys: KeysCollection, labels: Mapping[str, int], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.names = list(labels)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            if unknown := sorted(set(item[key]) - set(self.names)):
                raise ValueError(f"{key} has the structures {unknown}, expected some of {self.names}")
            item[key] = torch.tensor([False, *(name in item[key] for name in self.names)])
        return item


class DecodeLabelsd(MapTransform):
    """
    Convert classes 0 to K to the values of the data set. Class 0 becomes 0, also for other values of the background.

    The result has the Fortran order of NIfTI files in memory, in which it is written fastest.

    Args:
        keys: keys of maps of classes (1, *spatial).
        labels: structure -> value, in the order of the classes.
        allow_missing_keys: whether an item may lack a key.

    Raises:
        ValueError: a value is no int32.
    """

    def __init__(self, keys: KeysCollection, labels: Mapping[str, int], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        _check_values(labels.values())
        self.values = torch.tensor([0, *labels.values()], dtype=torch.int32)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            classes = without_metadata(item[key])
            values = torch.empty(classes.shape[::-1], dtype=torch.int32, device=classes.device).permute(3, 2, 1, 0)
            table = self.values.to(classes.device)
            for start in range(0, classes.shape[1], BLOCK):  # an index of all voxels would be eight bytes for each
                block = slice(start, start + BLOCK)
                values[:, block] = table[classes[:, block].long()]
            item[key] = convert_to_dst_type(values, item[key], dtype=torch.int32)[0]
        return item


class SameGridd(MapTransform):
    """
    Check that volumes have one voxel grid, and give them the affine of the first one.

    Args:
        keys: keys of volumes (1, *spatial) with affines; each is compared with the volume of the first key.
        allow_missing_keys: whether an item may lack a key.

    Raises:
        VolumeError: when called: see `check_same_grid`.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        keys = list(self.key_iterator(item))
        return item | {key: on_grid_of(item[key], item[keys[0]]) for key in keys[1:]}


def _check_values(values: Iterable[int]) -> None:
    """Refuse label values that an int32 label map cannot hold."""
    limits = torch.iinfo(torch.int32)
    wrong = [value for value in values if not isinstance(value, int) or not limits.min <= value <= limits.max]
    if wrong:
        raise ValueError(f"label values {wrong}, expected whole numbers from {limits.min} to {limits.max}")
