# SPDX-License-Identifier: Apache-2.0
"""The order of the samples: indices of the whole run, so that resuming and distributing change nothing."""

from __future__ import annotations

from collections.abc import Iterator

import torch.distributed
from ignite.engine import Engine, Events
from torch.utils.data import Sampler


class GlobalSampler(Sampler[int]):
    """
    Indices of one epoch for `PairDataset` and `SampleDataset`: epoch * samples_per_epoch + 0, 1, 2, and so on.

    Rank r of W processes takes every W-th index, starting with r. With b samples per rank and batch, step g of all
    ranks together draws the indices [g W b, (g + 1) W b) of the epoch. These are the samples of one process with
    batches of W b samples. The sampler runs in the main process, also when the loader has workers.

    To resume, call `set_epoch` before the loader is iterated, or call `attach(trainer)` once: it sets epoch and skipped
    samples at the start of every epoch, also within an epoch. The trainers of `custom.engines` call it themselves.

    Args:
        samples_per_epoch: samples of one epoch of all ranks together.
        rank: number of this process; by default that of torch.distributed, or 0 without it.
        world_size: number of processes; by default that of torch.distributed, or 1 without it.

    Raises:
        ValueError: `samples_per_epoch` is not a positive multiple of `world_size`, or the rank is not below it.
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
        """Continue with this epoch, counted from 0, without the first `skip` samples of this rank."""
        if epoch < 0 or not 0 <= skip < len(self):
            raise ValueError(f"epoch is {epoch} and skip {skip}, expected 0 or more and 0 to {len(self) - 1}")
        self.epoch = epoch
        self.skip = skip

    def attach(self, engine: Engine) -> None:
        """Register on an ignite trainer: at the start of each epoch, before the loader, follow its iteration count."""
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
