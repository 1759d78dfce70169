# SPDX-License-Identifier: Apache-2.0
"""Pairs of volumes of different subjects: random ones for training, fixed ones for validation."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, CopyItemsd
from torch.utils.data import Dataset

from ..volumes import image_name, without_metadata
from .cache import VolumeCache
from .datalist import group_by_subject
from .errors import named_error

logger = logging.getLogger(__name__)


def _plain(pair: dict[str, Any]) -> dict[str, Any]:
    """The pair with plain tensors in the place of MetaTensors: they are put into batches fast and without metadata."""
    return {key: without_metadata(value) for key, value in pair.items()}


def _assemble(
    moving: dict[str, Any], fixed: dict[str, Any], with_labels: bool, copy_volumes: bool
) -> dict[str, torch.Tensor]:
    pair = {"moving": moving["image"], "fixed": fixed["image"]}
    if with_labels and all(isinstance(volumes.get("label"), torch.Tensor) for volumes in (moving, fixed)):
        pair |= {"moving_label": moving["label"], "fixed_label": fixed["label"]}
    pair = _plain(pair)
    return {key: volume.clone() for key, volume in pair.items()} if copy_volumes else pair


def _seeds(seed: int, index: int) -> tuple[np.random.Generator, int, int]:
    """Independent generator and seeds of one pair: for the draw, for `pair_transform`, for transforms on the device."""
    draw, transform, device = np.random.SeedSequence([seed, index]).spawn(3)
    device_seed = int(device.generate_state(1, np.uint64)[0] >> np.uint64(1))
    return np.random.default_rng(draw), int(transform.generate_state(1)[0]), device_seed


def _transformed(pair: dict[str, torch.Tensor], transform: Compose, seed: int, name: str) -> dict[str, torch.Tensor]:
    """The pair after a copy of the transform with this seed; a copy, because threads may share the data set.

    Args:
        pair: tensors of a pair.
        transform: `pair_transform` of a data set.
        seed: of the pair.
        name: the pair and its files, for the message.

    Raises:
        RuntimeError, VolumeError: the transform fails; see `named_error`.
    """
    transform = copy.deepcopy(transform)
    transform.set_random_state(seed=seed)
    try:
        return transform(pair)
    except Exception as error:
        raise named_error(error, name) from error


class PairDataset(Dataset):
    """
    Random pairs of volumes of different subjects.

    `dataset[index]` depends on the seed and the index only, for every index from 0, also beyond the length. Subject A
    is drawn uniformly, subject B uniformly among the others, and one volume of each uniformly; the seed of
    `pair_transform` follows from the same two numbers. The number of workers, the order, the rank and resuming change
    nothing (see `GlobalSampler`).

    A sample holds plain tensors (1, *spatial): "moving" (of A), "fixed" (of B), "moving_label" and "fixed_label" if
    every item has a "label" that `transform` loads, and the entries that `pair_transform` adds. It also holds "index",
    "moving_index" and "fixed_index" (of the two volumes in `data`), and "seed", an integer below 2^63 for random
    transforms on the device.

    Args:
        data: items {"image": path, "label": path (optional), "subject": name (default: the image)}.
        transform: deterministic preprocessing of an item with the keys image and label.
        pair_transform: random transforms of plain tensors under the keys above, or None.
        seed: 0 or more; a sample depends on it and on the index.
        samples_per_epoch: the length.
        copy_cache: whether `pair_transform` gets copies of the volumes. False saves both copies where `pair_transform`
            begins with `RandRelativeCropd`, which copies its crop; other transforms could change the cache in place.
        cache: further arguments of `VolumeCache`: cache_rate, num_workers, cache_dir, progress.

    Raises:
        ValueError: there are fewer than two subjects, `transform` is random, the seed is negative, or there are no
            pairs per epoch.
        VolumeError: a volume cannot be used; see `VolumeCache`.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        transform: Callable | Sequence[Callable],
        pair_transform: Callable | Sequence[Callable] | None,
        seed: int,
        samples_per_epoch: int,
        copy_cache: bool = True,
        **cache: Any,
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
        self.volumes = VolumeCache(items, transform, **cache)
        self.pair_transform = pair_transform if isinstance(pair_transform, Compose) else Compose(pair_transform)
        self.seed = seed
        self.samples_per_epoch = samples_per_epoch
        self.copy_cache = copy_cache

    def __len__(self) -> int:
        return self.samples_per_epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[index] for index in range(len(self)))  # without __iter__, iteration would never end

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
        name = f"pair {index} (moving {self.data[moving]['image']}, fixed {self.data[fixed]['image']})"
        pair = _transformed(pair, self.pair_transform, transform_seed, name)
        indices = {"moving_index": moving, "fixed_index": fixed, "index": index}
        return _plain(pair) | indices | {"seed": device_seed}


class FixedPairDataset(Dataset):
    """
    The pairs of a list, for validation. Each volume is preprocessed once, also when it is in several pairs.

    A sample holds plain tensors (1, *spatial): "moving", "fixed", the entries that `pair_transform` adds, and
    "moving_label" and "fixed_label" where the pair has them and `transform` loads them (lists in which only some pairs
    have labels need a batch size of one). It also holds "moving_file" and "fixed_file", "index", and "seed" as in
    `PairDataset`.

    Args:
        data: pairs from `fixed_pairs`.
        transform: deterministic preprocessing with the keys image and label, including a centre crop.
        pair_transform: transforms of plain tensors under the keys above, with a random state for each pair; None makes
            "moving_transformed" a copy of "moving", without damage.
        seed: 0 or more; "seed" and the randomness of `pair_transform` depend on it and on the index.
        cache: further arguments of `VolumeCache`: cache_rate, num_workers, cache_dir, progress.

    Raises:
        ValueError: there are no pairs, a pair holds one volume twice, `transform` is random, or the seed is negative.
        VolumeError: a volume cannot be used; see `VolumeCache`.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        transform: Callable | Sequence[Callable],
        pair_transform: Callable | Sequence[Callable] | None = None,
        seed: int = 0,
        **cache: Any,
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
        self.index_of = {image: index for index, image in enumerate(items)}
        self.volumes = VolumeCache(list(items.values()), transform, **cache)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = int(index)
        if not 0 <= index < len(self.data):
            raise IndexError(f"index is {index}, expected 0 to {len(self.data) - 1}")
        pair = self.data[index]
        moving, fixed = (self.volumes[self.index_of[pair[side]]] for side in ("moving", "fixed"))
        sample = _assemble(moving, fixed, "moving_label" in pair and "fixed_label" in pair, copy_volumes=True)
        _, transform_seed, device_seed = _seeds(self.seed, index)
        name = f"pair {index} (moving {pair['moving']}, fixed {pair['fixed']})"
        sample = _plain(_transformed(sample, self.pair_transform, transform_seed, name))
        files = {f"{side}_file": image_name(pair[side]) for side in ("moving", "fixed")}
        return sample | files | {"index": index, "seed": device_seed}
