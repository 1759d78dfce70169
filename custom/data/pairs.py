# SPDX-License-Identifier: Apache-2.0
"""Pairs of volumes of different subjects: random ones for training, fixed ones for validation."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, CopyItemsd
from torch.utils.data import Dataset

from ..volumes import VolumeError
from .cache import VolumeCache, innermost, volume_error
from .datalist import group_by_subject

logger = logging.getLogger(__name__)


def _plain(pair: dict[str, Any]) -> dict[str, Any]:
    """MetaTensors as plain tensors, which collate fast and without metadata."""
    return {key: value.as_tensor() if isinstance(value, MetaTensor) else value for key, value in pair.items()}


def _assemble(
    moving: dict[str, Any], fixed: dict[str, Any], with_labels: bool, copy_volumes: bool
) -> dict[str, torch.Tensor]:
    pair = {"moving": moving["image"], "fixed": fixed["image"]}
    if with_labels and all(isinstance(volumes.get("label"), torch.Tensor) for volumes in (moving, fixed)):
        pair |= {"moving_label": moving["label"], "fixed_label": fixed["label"]}
    pair = _plain(pair)
    return {key: volume.clone() for key, volume in pair.items()} if copy_volumes else pair


def _seeds(seed: int, index: int) -> tuple[np.random.Generator, int, int]:
    """Independent randomness of one pair: for the draw, for `pair_transform`, for transforms on the device."""
    draw, transform, device = np.random.SeedSequence([seed, index]).spawn(3)
    device_seed = int(device.generate_state(1, np.uint64)[0] >> np.uint64(1))
    return np.random.default_rng(draw), int(transform.generate_state(1)[0]), device_seed


def _transformed(pair: dict[str, torch.Tensor], transform: Compose, seed: int) -> dict[str, torch.Tensor]:
    """The pair after a copy of the transform, since threads may share the dataset, with a seed of its own."""
    transform = copy.deepcopy(transform)
    transform.set_random_state(seed=seed)
    return transform(pair)


class PairDataset(Dataset):
    """
    Random pairs of volumes of different subjects.

    `dataset[index]` is a pure function of (seed, index) for every index from 0 on, not only below the length: subject
    A is drawn uniformly, B uniformly among the others, a volume of each uniformly, and `pair_transform` is seeded from
    the same two numbers. Worker count, order, rank and resuming change nothing (see `GlobalSampler`).

    Each sample holds plain tensors (1, *spatial): "moving" (A), "fixed" (B), "moving_label" and "fixed_label" if every
    item has a "label" that `transform` loads, what `pair_transform` adds, "index", "moving_index" and "fixed_index" (of
    both volumes in `data`), and "seed", an integer below 2^63 for random transforms on the device.

    Args:
        data: items {"image": path, "label": path (optional), "subject": name (default: the image)}.
        transform: deterministic preprocessing of an item with the keys image and label.
        pair_transform: random transforms of plain tensors under the keys above, or None.
        seed: not negative; with the index it fixes a sample.
        samples_per_epoch: the length.
        cache_rate: share of the volumes preprocessed now and kept in memory; the others are read when drawn.
        num_workers: threads that fill this cache.
        cache_dir: keep preprocessed volumes in this folder instead, each from its first use on.
        copy_cache: give `pair_transform` copies. False saves a copy of both volumes where `pair_transform` begins with
            `RandRelativeCropd`, which copies its crop; a transform that changes volumes in place would spoil the cache.
        progress: show a progress bar while filling the cache.

    Raises:
        ValueError: fewer than two subjects, a random `transform`, a negative seed, no pairs per epoch.
        VolumeError: a bad volume, named; all bad ones together while the cache is filled, else when it is drawn.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        transform: Callable | Sequence[Callable],
        pair_transform: Callable | Sequence[Callable] | None,
        seed: int,
        samples_per_epoch: int,
        cache_rate: float = 1.0,
        num_workers: int | None = 1,
        cache_dir: str | os.PathLike | None = None,
        copy_cache: bool = True,
        progress: bool = True,
    ) -> None:
        if seed < 0 or samples_per_epoch < 1:
            raise ValueError(f"seed is {seed} and samples_per_epoch {samples_per_epoch}, expected 0 and 1 or more")
        self.data = list(data)
        groups = group_by_subject(self.data)
        if len(groups) < 2:
            raise ValueError(
                f"{len(self.data)} volumes of {len(groups)} subjects ({', '.join(groups) or 'none'}): a pair needs two"
            )
        self.volumes_of_subject = list(groups.values())
        labelled = sum("label" in item for item in self.data)
        if 0 < labelled < len(self.data):
            logger.warning("%d of %d volumes have labels: labels are left out of the pairs", labelled, len(self.data))
        self.with_labels = labelled == len(self.data)
        dropped = () if self.with_labels else ("label",)
        items = [{key: value for key, value in item.items() if key not in dropped} for item in self.data]
        self.volumes = VolumeCache(items, transform, cache_rate, num_workers, cache_dir, progress)
        self.pair_transform = pair_transform if isinstance(pair_transform, Compose) else Compose(pair_transform)
        self.seed = seed
        self.samples_per_epoch = samples_per_epoch
        self.copy_cache = copy_cache

    def __len__(self) -> int:
        return self.samples_per_epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[index] for index in range(len(self)))  # without it, iteration would never end

    def draw(self, generator: np.random.Generator) -> tuple[int, int]:
        """Indices into `data` of two volumes of different subjects."""
        first = int(generator.integers(len(self.volumes_of_subject)))
        second = int(generator.integers(len(self.volumes_of_subject) - 1))
        second += second >= first
        moving, fixed = (int(generator.choice(self.volumes_of_subject[subject])) for subject in (first, second))
        return moving, fixed

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = int(index)
        if index < 0:
            raise IndexError(f"index is {index}, expected 0 or more")
        generator, transform_seed, device_seed = _seeds(self.seed, index)
        moving, fixed = self.draw(generator)
        pair = _assemble(self.volumes[moving], self.volumes[fixed], self.with_labels, self.copy_cache)
        try:
            pair = _transformed(pair, self.pair_transform, transform_seed)
        except Exception as error:
            files = f"moving {self.data[moving]['image']}, fixed {self.data[fixed]['image']}"
            found = volume_error(error)
            kind = RuntimeError if found is None else VolumeError
            raise kind(f"pair {index} ({files}): {found or innermost(error)}") from error
        indices = {"moving_index": moving, "fixed_index": fixed}
        return _plain(pair) | indices | {"index": index, "seed": device_seed}


class FixedPairDataset(Dataset):
    """
    The pairs of a list, for validation: each volume is preprocessed once, however many pairs it is in.

    Each sample holds plain tensors (1, *spatial): "moving", "fixed", what `pair_transform` adds, "moving_label" and
    "fixed_label" where the pair has them and `transform` loads them (mixed lists need a batch size of one), "index",
    and "seed" as in `PairDataset`.

    Args:
        data: pairs from `fixed_pairs`.
        transform: deterministic preprocessing with the keys image and label, a centre crop included.
        pair_transform: transforms of plain tensors under the keys above, each pair with its own random state; None
            makes "moving_transformed" a copy of "moving": no damage.
        seed: not negative; with the index it fixes "seed" and what is random in `pair_transform`.
        cache_rate, num_workers, cache_dir, progress: see `PairDataset`.

    Raises:
        ValueError: no pairs, a pair of a volume with itself, a random `transform`, a negative seed.
        VolumeError: see `PairDataset`.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        transform: Callable | Sequence[Callable],
        pair_transform: Callable | Sequence[Callable] | None = None,
        seed: int = 0,
        cache_rate: float = 1.0,
        num_workers: int | None = 1,
        cache_dir: str | os.PathLike | None = None,
        progress: bool = True,
    ) -> None:
        self.data = list(data)
        undamaged = CopyItemsd("moving", names="moving_transformed")
        self.pair_transform = Compose(undamaged if pair_transform is None else pair_transform)
        self.seed = seed
        if not self.data or seed < 0:
            raise ValueError(f"{len(self.data)} pairs and seed {seed}, expected one pair or more and 0 or more")
        items: dict[str, dict[str, Any]] = {}
        for pair in self.data:
            if pair["moving"] == pair["fixed"]:
                raise ValueError(f"pair of {pair['moving']} with itself, expected two different volumes")
            for side in ("moving", "fixed"):
                label = {"label": pair[f"{side}_label"]} if f"{side}_label" in pair else {}
                items[pair[side]] = items.get(pair[side], {"image": pair[side]}) | label
        self.place = {image: place for place, image in enumerate(items)}
        self.volumes = VolumeCache(list(items.values()), transform, cache_rate, num_workers, cache_dir, progress)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = int(index)
        if not 0 <= index < len(self.data):
            raise IndexError(f"index is {index}, expected 0 to {len(self.data) - 1}")
        pair = self.data[index]
        moving, fixed = (self.volumes[self.place[pair[side]]] for side in ("moving", "fixed"))
        sample = _assemble(moving, fixed, "moving_label" in pair and "fixed_label" in pair, copy_volumes=True)
        _, transform_seed, device_seed = _seeds(self.seed, index)
        sample = _plain(_transformed(sample, self.pair_transform, transform_seed))
        return sample | {"index": index, "seed": device_seed}
