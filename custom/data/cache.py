# SPDX-License-Identifier: Apache-2.0
"""Preprocessed volumes in memory or on disk, with errors that name the bad file."""

from __future__ import annotations

import copy
import logging
import os
import time
from collections.abc import Callable, Collection, Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from monai.data import CacheDataset, PersistentDataset
from monai.data.utils import pickle_hashing
from monai.transforms import Compose, RandomizableTrait
from monai.utils import convert_to_tensor
from torch.utils.data import Dataset

from ..files import load_tensors, remove_leftovers, write_tensors
from ..transforms import CheckedLoadImaged
from ..volumes import VolumeError, check_file, check_image, image_name, is_image, paths_of, volume_state
from .errors import case_error, volume_error
from .memory import available_memory

logger = logging.getLogger(__name__)


def _raise_together(errors: list[VolumeError], count: int) -> None:
    """Raise the errors of some of `count` volumes as one; do nothing if there are none."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        listed = "\n  ".join(str(error) for error in errors[:20])
        raise VolumeError(f"{len(errors)} of {count} volumes cannot be used:\n  {listed}") from errors[0]


def _loaders(transform: Compose) -> list[CheckedLoadImaged]:
    return [loader for loader in transform.transforms if isinstance(loader, CheckedLoadImaged)]


def _check_files(items: Sequence[dict[str, Any]], transform: Compose, header_only: bool) -> None:
    """Check the files that the `CheckedLoadImaged` of the preprocessing will read later; see `check_file`."""
    start = time.perf_counter()
    errors, count = [], 0
    for item in items:
        try:
            for loader in _loaders(transform):
                for key in loader.keys:
                    if not is_image(item.get(key)):
                        continue
                    if key in loader.label_keys:
                        check_file(item[key], is_label=True, header_only=header_only)
                    else:
                        check_image(item[key], loader.channels, header_only)
                    count += len(paths_of(item[key]))
        except VolumeError as error:
            errors.append(error)
    _raise_together(errors, len(items))
    if count:
        logger.info(f"checked the headers of {count} files in {time.perf_counter() - start:.1f} s")


class _TooLarge(Exception):
    """The volumes do not fit into memory; the message says how large they are about and how much memory there is."""


class _MemoryCache(CacheDataset):
    """A CacheDataset that continues after a bad volume and then reports all bad volumes in one error.

    Args:
        data: see `VolumeCache`.
        transform: see `VolumeCache`.
        memory_share: see `VolumeCache`.
        arguments: of CacheDataset.

    Raises:
        _TooLarge: as many volumes as are to stay in memory, each as large as the first usable one, do not fit.
    """

    def __init__(
        self, data: Sequence[dict[str, Any]], transform: Compose, memory_share: float, **arguments: Any
    ) -> None:
        self.memory_share = memory_share
        super().__init__(data, transform, **arguments)

    def _load_cache_item(self, idx: int) -> Any:
        try:
            return super()._load_cache_item(idx)
        except Exception as error:
            failure = volume_error(error)
            if failure is None:  # the transform may fail for every file: stop at once
                raise case_error(error, self.data[idx]) from error
            return failure

    def _fill_cache(self, indices: Sequence[int] | None = None) -> list:
        indices = list(range(self.cache_num) if indices is None else indices)
        cache = []
        for index in indices:
            cache.append(self._load_cache_item(index))
            if not isinstance(cache[-1], VolumeError):
                self._check_size(cache[-1], len(indices))
                break
        others = indices[len(cache) :]
        cache += super()._fill_cache(others) if others else []
        _raise_together([entry for entry in cache if isinstance(entry, VolumeError)], len(cache))
        return cache

    def _check_size(self, volumes: Any, count: int) -> None:
        available = available_memory()
        needed = count * _size(volumes)
        if available is None:
            logger.info(f"{count} volumes stay in memory: about {_gigabytes(needed)} of an unknown amount")
            return
        described = f"about {_gigabytes(needed)}, {_gigabytes(available)} of memory are available"
        if needed > self.memory_share * available:
            raise _TooLarge(f"{described}, of which a share of {self.memory_share:g} may be used")
        logger.info(f"{count} volumes stay in memory: {described}")


def _size(volumes: Any) -> int:
    """Bytes of the tensors of a preprocessed item."""
    return sum(value.nbytes for value in volumes.values() if isinstance(value, torch.Tensor))


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def _item_hash(item: dict[str, Any], keys: Collection[Hashable]) -> bytes:
    """Hash of an item in which the state of a file stands for its path, under the keys that are read as files."""
    images = {key: paths_of(value) for key, value in item.items() if key in keys and is_image(value)}
    files = {
        key: [state for path in paths for state in volume_state(path)]
        for key, paths in images.items()
        if all(map(os.path.exists, paths))
    }
    return pickle_hashing({**item, **files})


def _read_entry(path: Path, item: dict[str, Any]) -> dict[str, Any] | None:
    """The preprocessed volumes in a file of the cache; None, with a warning, if the file is damaged.

    Voxels are read when they are used: a crop reads little more than itself. A file that is cut off or that is no file
    of torch is noticed here, another voxel value in a complete file is not.
    """
    try:
        volumes = load_tensors(path, mmap=True)
    except ValueError as error:
        problem = str(error)
    else:
        if isinstance(volumes, dict) and "image" in volumes:
            return volumes
        problem = f"it holds {type(volumes).__name__}, expected a dictionary with an image"
    logger.warning(f"the cache file {path} is damaged ({problem}): {image_name(item['image'])} is preprocessed again")
    return None


class _DiskCache(PersistentDataset):
    """A PersistentDataset whose file names depend on the transform and the state of the volume's files.

    Its files appear complete (`custom.files.atomic`), also when a run is killed or two loader workers write one file.
    Temporary files of killed runs are removed.
    """

    def __init__(self, data: Sequence[dict[str, Any]], transform: Compose, cache_dir: str | os.PathLike) -> None:
        remove_leftovers(cache_dir)
        keys = {key for loader in _loaders(transform) for key in loader.keys}
        hash_func = partial(_item_hash, keys=keys)
        super().__init__(data, transform, cache_dir, hash_func=hash_func, hash_transform=pickle_hashing)

    def missing(self) -> list[dict[str, Any]]:
        """The items that are not on disk yet."""
        return [item for item in self.data if not self._file(item).is_file()]

    def _file(self, item: dict[str, Any]) -> Path:
        return self.cache_dir / f"{self.hash_func(item).decode()}{self.transform_hash[:16]}.pt"

    def _cachecheck(self, item_transformed: dict[str, Any]) -> dict[str, Any]:
        file = self._file(item_transformed)
        if file.is_file() and (volumes := _read_entry(file, item_transformed)) is not None:
            return volumes
        volumes = self._pre_transform(copy.deepcopy(item_transformed))
        volumes = convert_to_tensor(volumes, convert_numeric=False, track_meta=False)
        write_tensors(file, volumes, "the preprocessed volume")
        return volumes


class VolumeCache(Dataset):
    """Preprocessed volumes with errors that name the file; it is also the data set of validation and inference.

    One line of the log says where the volumes are kept.

    Args:
        data: items {"image": path or paths of channels, "label": path or class (optional), "subject": name (optional)}.
        transform: deterministic preprocessing of an item.
        cache_rate: share of the volumes that are preprocessed now and stay in memory; the others are read at each use.
        num_workers: threads that fill this cache; None for one per core.
        cache_dir: folder for preprocessed volumes as plain tensors, written at the first use of each; then nothing
            stays in memory. The files that are not there yet are checked now (`check_file`).
        progress: show a progress bar while filling the cache.
        overflow_dir: the `cache_dir` to use if the volumes do not fit into memory, judged by the size of the first
            usable one after preprocessing; None for an error.
        memory_share: largest share of the available memory (`available_memory`) that the volumes may take.
        header_only: check the headers of the files of `cache_dir` only, not whether each file is complete.

    Raises:
        ValueError: `transform` is random.
        MemoryError: the volumes do not fit into memory, and there is no `overflow_dir`.
        VolumeError: a volume cannot be used. While the cache is filled, and while headers are checked, one error names
            all such volumes; otherwise it is raised when the volume is read.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        transform: Callable | Sequence[Callable],
        cache_rate: float = 1.0,
        num_workers: int | None = 1,
        cache_dir: str | os.PathLike | None = None,
        progress: bool = True,
        overflow_dir: str | os.PathLike | None = None,
        memory_share: float = 0.5,
        header_only: bool = False,
    ) -> None:
        transform = Compose(transform).flatten()  # a Compose inside counts as random for MONAI and is never cached
        random = [type(t).__name__ for t in transform.transforms if isinstance(t, RandomizableTrait)]
        if random:
            raise ValueError(
                f"transform must be deterministic, got {', '.join(random)}: move them to pair_transform or "
                "random_transform"
            )
        self.data = list(data)
        self.cache: Dataset
        reason = "as cache_dir says"
        if cache_dir is None:
            arguments = {"cache_rate": cache_rate, "num_workers": num_workers, "progress": progress}
            try:
                self.cache = _MemoryCache(self.data, transform, memory_share, **arguments)
                return
            except _TooLarge as error:
                if overflow_dir is None:
                    raise MemoryError(
                        f"{len(self.data)} volumes are too large for memory ({error}), expected a cache_dir"
                    ) from None
                cache_dir, reason = overflow_dir, f"too large for memory ({error})"
        logger.info(f"{len(self.data)} volumes are kept on disk, in {cache_dir}: {reason}")
        self.cache = _DiskCache(self.data, transform, cache_dir)
        _check_files(self.cache.missing(), transform, header_only)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        try:
            return self.cache[index]
        except OSError:  # the folder of the cache cannot be written; errors of volumes are no OSErrors
            raise
        except Exception as error:
            failure = case_error(error, self.data[index])
            raise failure from failure.__cause__
