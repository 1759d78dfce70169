# SPDX-License-Identifier: Apache-2.0
"""GlobalSampler: global indices over epochs, ranks and resumed runs."""

import pytest
import torch
from ignite.engine import Engine
from torch.utils.data import BatchSampler, DataLoader, Dataset

from custom.data import GlobalSampler
from custom.engines import MixedPrecisionTrainer


class Indices(Dataset):
    """Returns the index it is asked for, past its length too, as PairDataset does."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return index


def test_epochs_follow_one_another():
    sampler = GlobalSampler(4)
    assert list(sampler) == [0, 1, 2, 3] == list(sampler) and len(sampler) == 4
    sampler.set_epoch(3)
    assert list(sampler) == [12, 13, 14, 15]
    sampler.set_epoch(3, skip=2)
    assert list(sampler) == [14, 15] and len(sampler) == 4
    sampler.set_epoch(4)
    assert list(sampler) == [16, 17, 18, 19]


@pytest.mark.parametrize("world_size, batch_size", [(2, 1), (2, 3), (4, 2), (3, 4)])
def test_ranks_together_see_the_batches_of_one_process(world_size, batch_size):
    pairs = world_size * batch_size * 5
    together = GlobalSampler(pairs)
    ranks = [GlobalSampler(pairs, rank, world_size) for rank in range(world_size)]
    for sampler in (together, *ranks):
        sampler.set_epoch(2)
    assert all(len(sampler) == len(list(sampler)) == pairs // world_size for sampler in ranks)
    large = list(BatchSampler(together, world_size * batch_size, drop_last=False))
    small = [list(BatchSampler(sampler, batch_size, drop_last=False)) for sampler in ranks]
    for step, batch in enumerate(large):
        assert sorted(index for rank in small for index in rank[step]) == batch


def test_rank_and_world_come_from_torch_distributed(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    assert list(GlobalSampler(9)) == [1, 4, 7]
    assert list(GlobalSampler(9, rank=0, world_size=1)) == list(range(9))


@pytest.mark.parametrize(
    "arguments, finding",
    [
        ((7, 0, 2), "samples_per_epoch is 7, expected a positive multiple of the 2 processes"),
        ((0,), "samples_per_epoch is 0"),
        ((4, 2, 2), "rank 2 is outside a world of 2"),
        ((4, 0, 0), "rank 0 is outside a world of 0"),
    ],
)
def test_errors(arguments, finding):
    with pytest.raises(ValueError, match=finding):
        GlobalSampler(*arguments)
    with pytest.raises(ValueError, match="epoch is -1"):
        GlobalSampler(4).set_epoch(-1)
    with pytest.raises(ValueError, match="skip 2, expected 0 or more and 0 to 1"):
        GlobalSampler(4, 0, 2).set_epoch(0, skip=2)


def run(max_epochs, resume_at=None, **loader_arguments):
    """Indices per iteration of a run over 6 pairs per epoch in batches of 2: 3 iterations per epoch."""
    sampler = GlobalSampler(6)
    loader = DataLoader(Indices(), sampler=sampler, batch_size=2, **loader_arguments)
    seen = []
    engine = Engine(lambda engine, batch: seen.append(batch.tolist()))
    sampler.attach(engine)
    if resume_at is not None:
        engine.load_state_dict({"epoch_length": 3, "max_epochs": max_epochs, "iteration": resume_at})
    engine.run(loader, max_epochs=max_epochs, epoch_length=3)
    return seen


@pytest.mark.parametrize("loader_arguments", [{}, {"num_workers": 2, "persistent_workers": True}])
@pytest.mark.parametrize("resume_at", [3, 6, 1, 5])
def test_resumed_run_continues_with_the_next_indices(loader_arguments, resume_at):
    whole = run(4, **loader_arguments)
    assert whole == [[i, i + 1] for i in range(0, 24, 2)]
    assert run(4, resume_at, **loader_arguments) == whole[resume_at:]


def test_a_trainer_attaches_the_sampler_of_its_loader():
    sampler = GlobalSampler(6)
    seen = []
    trainer = MixedPrecisionTrainer(
        device=torch.device("cpu"),
        max_epochs=2,
        train_data_loader=DataLoader(Indices(), sampler=sampler, batch_size=3),
        network=torch.nn.Identity(),
        optimizer=None,
        loss_function=None,
        iteration_update=lambda engine, batch: seen.append(batch.tolist()),
        decollate=False,
    )
    trainer.run()
    assert seen == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
