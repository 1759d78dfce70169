# SPDX-License-Identifier: Apache-2.0
"""Pairs for multi-atlas segmentation: labelled volumes (atlases) are registered to a volume, and their label maps vote.

See `custom.registration.votes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monai.transforms import Compose
from torch.utils.data import Dataset

from .pair import RegistrationPair


class AtlasPairs(Dataset):
    """Each volume with each atlas as a pair: the atlas moves, the volume is fixed. A volume's pairs follow each other.

    An item is that of `RegistrationPair`, with its index, and with "image", "subject" and "output" of the volume.

    Args:
        atlases: items with "image" and "label", paths.
        volumes: items with "image", "subject" and "output", see `custom.data.inference_data`.
        transform: see `RegistrationPair`.
    """

    def __init__(
        self,
        atlases: Sequence[Mapping[str, Any]],
        volumes: Sequence[Mapping[str, Any]],
        transform: Compose | Sequence[Callable],
    ) -> None:
        self.atlases = list(atlases)
        self.data = [dict(volume) for volume in volumes for _ in self.atlases]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        atlas, volume = self.atlases[index % len(self.atlases)], self.data[index]
        pair = RegistrationPair(atlas["image"], volume["image"], self.transform, moving_label=atlas["label"])
        return {**pair[0], **volume, "index": index}
