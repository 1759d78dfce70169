# SPDX-License-Identifier: Apache-2.0
"""Preprocessed volumes in memory or on disk, with errors that name the bad file."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import CacheDataset, PersistentDataset
from monai.data.utils import pickle_hashing
from monai.transforms import Compose, RandomizableTrait
from monai.utils import convert_to_tensor
from torch.utils.data import Dataset

from ..volumes import VolumeError


def volume_error(error: BaseException) -> VolumeError | None:
    """The VolumeError inside the RuntimeErrors that MONAI's Compose wraps around it."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, VolumeError):
        cause = cause.__cause__
    return cause


def innermost(error: BaseException) -> BaseException:
    return innermost(error.__cause__) if error.__cause__ is not None else error


def _preprocessing_error(error: Exception, item: dict[str, Any]) -> VolumeError:
    """The error to raise for an item, its cause set: a transform's own VolumeError, or one that names the image."""
    found = volume_error(error)
    if found is None:
        inner = innermost(error)
        found = VolumeError(f"{item['image']}: preprocessing failed ({type(inner).__name__}: {inner})")
        found.__cause__ = error
    return found


class _MemoryCache(CacheDataset):
    """CacheDataset that goes on after a bad volume and then reports all of them in one error."""

    def _load_cache_item(self, idx: int) -> Any:
        try:
            return super()._load_cache_item(idx)
        except Exception as error:
            found = volume_error(error)
            if found is None:  # not the file's fault alone: stop at once
                raise _preprocessing_error(error, self.data[idx]) from error
            return found

    def _fill_cache(self, indices: Sequence[int] | None = None) -> list:
        cache = super()._fill_cache(indices)
        errors = [entry for entry in cache if isinstance(entry, VolumeError)]
        if len(errors) == 1:
            raise errors[0]
        if errors:
            listed = "\n  ".join(str(error) for error in errors[:20])
            raise VolumeError(f"{len(errors)} of {len(cache)} volumes cannot be used:\n  {listed}") from errors[0]
        return cache


def _file_state(path: str) -> list[tuple[str, int, int]]:
    """Name, size and time of change of a file, or of each file in a DICOM folder: a changed volume is read anew."""
    paths = sorted(entry.path for entry in os.scandir(path)) if os.path.isdir(path) else [path]
    states = [(name, os.stat(name)) for name in paths if os.path.exists(name)]
    return [(os.path.abspath(name), state.st_size, state.st_mtime_ns) for name, state in states]


def _item_hash(item: dict[str, Any]) -> bytes:
    """Hash of what an item says, with the state of a file instead of its path."""
    paths = {key: value for key, value in item.items() if isinstance(value, (str, os.PathLike))}
    files = {key: _file_state(path) for key, path in paths.items() if os.path.exists(path)}
    return pickle_hashing({**item, **files})


class _DiskCache(PersistentDataset):
    """PersistentDataset whose files are keyed on transform and file state and appear by an atomic rename only, so that
    killed runs and loader workers that meet at one volume leave no partial file behind."""

    def __init__(self, data: Sequence[dict[str, Any]], transform: Compose, cache_dir: str | os.PathLike) -> None:
        super().__init__(data, transform, cache_dir, hash_func=_item_hash, hash_transform=pickle_hashing)

    def _cachecheck(self, item_transformed: dict[str, Any]) -> dict[str, Any]:
        name = self.hash_func(item_transformed).decode() + self.transform_hash[:16]
        file = self.cache_dir / f"{name}.pt"
        if file.is_file():
            return torch.load(file, weights_only=True)
        volumes = self._pre_transform(copy.deepcopy(item_transformed))
        volumes = convert_to_tensor(volumes, convert_numeric=False, track_meta=False)
        temporary = Path(f"{file}.{os.getpid()}.{threading.get_ident()}.part")
        torch.save(volumes, temporary)
        os.replace(temporary, file)
        return volumes


class VolumeCache(Dataset):
    """Preprocessed volumes, each with errors that name its file; by itself the data set of validation and inference.

    Args:
        data: items {"image": path, "label": path or class (optional), "subject": name (optional)}.
        transform: deterministic preprocessing of an item.
        cache_rate: share of the volumes preprocessed now and kept in memory; the others are read when asked for.
        num_workers: threads that fill this cache.
        cache_dir: keep preprocessed volumes in this folder instead, each from its first use on, as plain tensors.
        progress: show a progress bar while filling the cache.

    Raises:
        ValueError: a random `transform`.
        VolumeError: a bad volume, named; all bad ones together while the cache is filled, else when it is read.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        transform: Callable | Sequence[Callable],
        cache_rate: float = 1.0,
        num_workers: int | None = 1,
        cache_dir: str | os.PathLike | None = None,
        progress: bool = True,
    ) -> None:
        transform = Compose(transform).flatten()  # a Compose inside counts as random for MONAI and is never cached
        random = [type(t).__name__ for t in transform.transforms if isinstance(t, RandomizableTrait)]
        if random:
            raise ValueError(
                f"transform must be deterministic, got {', '.join(random)}: move them to pair_transform or "
                "random_transform"
            )
        self.data = list(data)
        if cache_dir is None:
            self.cache: Dataset = _MemoryCache(
                self.data, transform, cache_rate=cache_rate, num_workers=num_workers, progress=progress
            )
        else:
            self.cache = _DiskCache(self.data, transform, cache_dir)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        try:
            return self.cache[index]
        except Exception as error:
            failure = _preprocessing_error(error, self.data[index])
            raise failure from failure.__cause__
