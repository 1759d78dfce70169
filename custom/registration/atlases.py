# SPDX-License-Identifier: Apache-2.0
"""Multi-atlas segmentation: labelled volumes (atlases) are registered to a volume, and their label maps vote.

Heckemann et al., "Automatic anatomical brain MRI segmentation combining label propagation and decision fusion",
NeuroImage 2006.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
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


def majority(votes: torch.Tensor) -> tuple[torch.Tensor, float | None]:
    """The most frequent value at each voxel, of equally frequent ones the smallest; and how far the maps agree.

    Args:
        votes: label maps, (maps, *spatial).

    Returns:
        (*spatial), and the mean share of maps that have the winner's value over the voxels where any map is not 0; None
        without such voxels.
    """
    winner = votes.mode(0).values
    labelled = (votes != 0).any(0)
    share = (votes == winner).float().mean(0)[labelled]
    return winner, round(float(share.mean()), 4) if len(share) else None
