# SPDX-License-Identifier: Apache-2.0
"""Base classes of the random transforms of intensities, for one volume and for several keys of an item."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Randomizable, RandomizableTransform
from monai.utils import convert_data_type, convert_to_dst_type


class RandAppearanceTransform(RandomizableTransform):
    """Change a volume (C, *spatial) with probability `prob`. The result is new and has the type of the input.

    A subclass implements `draw` (the random numbers) and `change` (the computation).
    """

    def randomize(self, shape: Sequence[int]) -> None:
        super().randomize(None)
        if self._do_transform:
            self.draw(shape)

    def draw(self, shape: Sequence[int]) -> None:
        """Draw the random numbers for a volume of the shape (C, *spatial) and store them in the object."""
        raise NotImplementedError

    def change(self, volume: np.ndarray) -> np.ndarray:
        """The changed volume, a new array."""
        raise NotImplementedError

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        if randomize:
            self.randomize(img.shape)
        if not self._do_transform:
            return img
        return convert_to_dst_type(self.change(convert_data_type(img, np.ndarray)[0]), img)[0]


def check_floating(volume: np.ndarray) -> None:
    """Raise TypeError for integer types, which cannot hold intensities in [0, 1]."""
    if not np.issubdtype(volume.dtype, np.floating):
        raise TypeError(f"intensities must be floating point in [0, 1], got dtype {volume.dtype}")


class RandKeyedTransform(Randomizable, MapTransform):
    """Draw once and apply one random array transform to the volumes (C, *spatial) of several keys.

    A subclass names the class of the array transform in `array_transform`.

    Args:
        keys: keys of volumes of one shape.
        allow_missing_keys: whether an item may lack a key.
        arguments: arguments of the array transform.
    """

    array_transform: type[RandAppearanceTransform]

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False, **arguments: Any) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.transform = self.array_transform(**arguments)

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandKeyedTransform:
        super().set_random_state(seed, state)
        self.transform.set_random_state(seed, state)
        return self

    def randomize(self, shape: Sequence[int]) -> None:
        self.transform.randomize(shape)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        result = dict(data)
        keys = list(self.key_iterator(result))
        if keys:
            self.randomize(result[keys[0]].shape)
        for key in keys:
            result[key] = self.transform(result[key], randomize=False)
        return result
