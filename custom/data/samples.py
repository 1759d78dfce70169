# SPDX-License-Identifier: Apache-2.0
"""Random samples of labelled volumes for supervised training."""

from __future__ import annotations

import copy
import numbers
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose
from torch.utils.data import Dataset

from ..volumes import without_metadata
from .cache import VolumeCache
from .errors import named_error


class SampleDataset(Dataset):
    """
    Labelled volumes with random transforms, in a new random order in each pass.

    `dataset[index]` depends on the seed and the index only, for every index from 0, also beyond the length. With n
    volumes, the volume is entry index % n of a permutation with the seed (seed, index // n), and `random_transform`
    has the seed (seed, index). The number of workers, the order, the rank and resuming change nothing (see
    `GlobalSampler`). Every n consecutive indices that start at a multiple of n hold every volume once.

    A sample holds the tensors (as plain tensors) and numbers of the transformed item, such as "image" and "label",
    and "index"; strings and lists are left out. A `random_transform` that cuts several crops from a volume gives a
    list of samples, which MONAI's DataLoader puts into one batch.

    Args:
        data: items {"image": path, "label": path or class, "subject": name (optional)}.
        transform: deterministic preprocessing of an item.
        random_transform: random transforms of plain tensors, or None.
        seed: 0 or more; a sample depends on it and on the index.
        samples_per_epoch: the length; by default the number of volumes.
        cache: further arguments of `VolumeCache`: cache_rate, num_workers, cache_dir, progress.

    Raises:
        ValueError: there are no items, `transform` is random, the seed is negative, or there are no samples per epoch.
        VolumeError: a volume cannot be used; see `VolumeCache`.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        transform: Callable | Sequence[Callable],
        random_transform: Callable | Sequence[Callable] | None,
        seed: int,
        samples_per_epoch: int | None = None,
        **cache: Any,
    ) -> None:
        self.data = list(data)
        self.samples_per_epoch = len(self.data) if samples_per_epoch is None else samples_per_epoch
        if not self.data or seed < 0 or self.samples_per_epoch < 1:
            raise ValueError(
                f"{len(self.data)} items, seed {seed} and samples_per_epoch {samples_per_epoch}, expected one item or "
                "more, 0 or more and 1 or more"
            )
        self.volumes = VolumeCache(self.data, transform, **cache)
        self.random_transform = random_transform if isinstance(random_transform, Compose) else Compose(random_transform)
        self.seed = seed

    def __len__(self) -> int:
        return self.samples_per_epoch

    def __iter__(self) -> Iterator[dict[str, Any] | list[dict[str, Any]]]:
        return (self[index] for index in range(len(self)))  # without __iter__, iteration would never end

    def volume_of(self, index: int) -> int:
        """Index into `data` of the volume of a sample."""
        epoch, entry = divmod(index, len(self.data))
        return int(np.random.default_rng([self.seed, epoch]).permutation(len(self.data))[entry])

    def __getitem__(self, index: int) -> dict[str, Any] | list[dict[str, Any]]:
        index = int(index)
        if index < 0:
            raise IndexError(f"index is {index}, expected 0 or more")
        volume = self.volume_of(index)
        item = {name: _copied(value) for name, value in self.volumes[volume].items()}
        random_transform = copy.deepcopy(self.random_transform)  # threads may share the dataset
        random_transform.set_random_state(seed=int(np.random.SeedSequence([self.seed, index]).generate_state(1)[0]))
        try:
            drawn = random_transform(item)
        except Exception as error:
            raise named_error(error, f"sample {index} ({self.data[volume]['image']})") from error
        samples = [_sample(crop, index) for crop in (drawn if isinstance(drawn, list) else [drawn])]
        return samples[0] if len(samples) == 1 else samples


def _copied(value: Any) -> Any:
    """A copy, of a tensor as a plain tensor: a transform that changes it in place does not change the cache."""
    if isinstance(value, torch.Tensor):
        return without_metadata(value).clone()
    return copy.copy(value)


def _sample(item: dict[str, Any], index: int) -> dict[str, Any]:
    values = {name: value for name, value in item.items() if isinstance(value, (torch.Tensor, numbers.Number))}
    plain = {name: without_metadata(value) for name, value in values.items()}
    return plain | {"index": index}
