# SPDX-License-Identifier: Apache-2.0
"""The order in which samples are drawn: global indices, so that resuming and distributing change nothing."""

from __future__ import annotations

from collections.abc import Iterator

import torch.distributed
from ignite.engine import Engine, Events
from torch.utils.data import Sampler


class GlobalSampler(Sampler[int]):
    """
    Global indices of one epoch, epoch * samples_per_epoch + 0, 1, ..., samples_per_epoch - 1, for `PairDataset` and
    `SampleDataset`.

    Rank r of W takes every W-th index from r on. With a batch of b samples per rank, step g of all ranks together then
    draws the indices [g W b, (g + 1) W b) of the epoch: exactly the batch of one process with W b samples (interleaved,
    not in blocks). The sampler lives in the main process, whatever the loader's workers are.

    Resuming: `set_epoch` before the loader is iterated, or once `attach(trainer)`, which does so at the start of every
    epoch from the engine's own count, within an epoch too; an instance can stand in a list of MONAI handlers.

    Args:
        samples_per_epoch: samples of one epoch over all ranks.
        rank, world_size: default to those of torch.distributed if it is initialised, else 0 and 1.

    Raises:
        ValueError: `samples_per_epoch` that is not a positive multiple of `world_size`, a rank outside the world.
    """

    def __init__(self, samples_per_epoch: int, rank: int | None = None, world_size: int | None = None) -> None:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if world_size is None:
            world_size = torch.distributed.get_world_size() if distributed else 1
        if rank is None:
            rank = torch.distributed.get_rank() if distributed else 0
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is outside a world of {world_size} processes")
        if samples_per_epoch < 1 or samples_per_epoch % world_size:
            raise ValueError(
                f"samples_per_epoch is {samples_per_epoch}, expected a positive multiple of the {world_size} processes"
            )
        self.rank, self.world_size = rank, world_size
        self.samples_per_epoch = samples_per_epoch
        self.epoch = 0
        self.skip = 0

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        """Choose what is yielded next: an epoch, counted from 0, without this rank's first `skip` samples."""
        if epoch < 0 or not 0 <= skip < len(self):
            raise ValueError(f"epoch is {epoch} and skip {skip}, expected 0 or more and 0 to {len(self) - 1}")
        self.epoch = epoch
        self.skip = skip

    def attach(self, engine: Engine) -> None:
        """Follow the iteration count of an ignite engine, which starts an epoch before it iterates the loader."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._follow)

    def _follow(self, engine: Engine) -> None:
        state = engine.state
        epoch = state.epoch - 1  # ignite counts from 1
        iterations = state.iteration - epoch * state.epoch_length if state.iteration else 0
        self.set_epoch(epoch, iterations * state.dataloader.batch_size if iterations else 0)

    def __len__(self) -> int:
        return self.samples_per_epoch // self.world_size

    def __iter__(self) -> Iterator[int]:
        first = self.epoch * self.samples_per_epoch
        return iter(range(first + self.rank, first + self.samples_per_epoch, self.world_size)[self.skip :])
