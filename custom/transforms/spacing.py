# SPDX-License-Identifier: Apache-2.0
"""MONAI's Spacingd for items with further entries besides volumes and their metadata, and for label maps."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import Spacingd

from ..volumes import VolumeError, file_name

EXACT_IN_FLOAT32 = 2**24  # MONAI's resampling gives float32, which merges larger whole numbers


class ToSpacingd(Spacingd):
    """
    `monai.transforms.Spacingd` that does not touch entries such as `image_path`; arguments and inverse are the same.

    With a volume from a NIfTI file under a key, MONAI 1.6.1 calls `update` on every entry whose name begins with
    this key and an underscore. MONAI Label adds strings with such names. No key may begin with another key and an
    underscore.

    Raises:
        VolumeError: when called: a label map (integers) has a value above 2^24, which float32 would change.
    """

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        for key in self.key_iterator(data):
            _refuse_inexact(data[key], key)
        prefixes = tuple(f"{key}_" for key in self.keys)
        hidden = {
            name: value
            for name, value in data.items()
            if isinstance(name, str) and name.startswith(prefixes) and not isinstance(value, dict)
        }
        shown = {name: value for name, value in data.items() if name not in hidden}
        return super().__call__(shown, lazy) | hidden


def _refuse_inexact(volume: Any, key: Hashable) -> None:
    if isinstance(volume, torch.Tensor) and not volume.is_floating_point():
        largest = max(-int(volume.min()), int(volume.max()))
        if largest > EXACT_IN_FLOAT32:
            name = file_name(volume, f"key {key!r}")
            raise VolumeError(
                f"{name}: label value {largest}, expected at most {EXACT_IN_FLOAT32}, because resampling in "
                "float32 would merge it with its neighbours"
            )
