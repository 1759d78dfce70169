# SPDX-License-Identifier: Apache-2.0
"""Pairs for multi-atlas segmentation: labelled volumes (atlases) are registered to a volume, and their label maps vote.

See `custom.registration.votes`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monai.transforms import Compose
from torch.utils.data import Dataset

from ..volumes import paths_of
from .pair import RegistrationPair


class AtlasPairs(Dataset):
    """Each volume with each atlas as a pair: the atlas moves, the volume is fixed. A volume's pairs follow each other.

    An item is that of `RegistrationPair`, with its index, and with "image", "subject" and "output" of the volume.
    `inputs` has the paths of all files.

    Args:
        atlases: items with "image" and "label", paths.
        volumes: items with "image", "subject" and "output", see `custom.data.inference_data`.
        transform: see `RegistrationPair`.

    Raises:
        ValueError: a volume to label is an atlas.
    """

    unit = "pair"  # what an error counts

    def __init__(
        self,
        atlases: Sequence[Mapping[str, Any]],
        volumes: Sequence[Mapping[str, Any]],
        transform: Compose | Sequence[Callable],
    ) -> None:
        self.atlases = list(atlases)
        known = {os.path.realpath(path) for atlas in self.atlases for path in paths_of(atlas["image"])}
        for volume in volumes:
            if shared := [path for path in paths_of(volume["image"]) if os.path.realpath(path) in known]:
                raise ValueError(f"{shared[0]} is an atlas and a volume to label, expected other volumes")
        self.data = [dict(volume) for volume in volumes for _ in self.atlases]
        self.transform = transform
        items = [*self.atlases, *volumes]
        self.inputs = [path for item in items for key in ("image", "label") for path in paths_of(item.get(key, ()))]

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        atlas, volume = self.atlases[index % len(self.atlases)], self.data[index]
        pair = RegistrationPair(atlas["image"], volume["image"], self.transform, moving_label=atlas["label"])
        return {**pair[0], **volume, "index": index}
