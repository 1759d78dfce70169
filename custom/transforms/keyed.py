# SPDX-License-Identifier: Apache-2.0
"""What the dictionary versions of the appearance transforms have in common."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Randomizable, RandomizableTransform


class RandKeyedTransform(Randomizable, MapTransform):
    """Draws once, then applies one random array transform to the volumes (1, *spatial) of several keys.

    Args:
        keys: keys of volumes of one shape. transform: the array transform. allow_missing_keys: see MapTransform.
    """

    def __init__(self, keys: KeysCollection, transform: RandomizableTransform, allow_missing_keys: bool) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.transform = transform

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandKeyedTransform:
        super().set_random_state(seed, state)
        self.transform.set_random_state(seed, state)
        return self

    def randomize(self, spatial_shape: Sequence[int]) -> None:
        self.transform.randomize(spatial_shape)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        result = dict(data)
        keys = list(self.key_iterator(result))
        if keys:
            self.randomize(result[keys[0]].shape[1:])
        for key in keys:
            result[key] = self.transform(result[key], randomize=False)
        return result
