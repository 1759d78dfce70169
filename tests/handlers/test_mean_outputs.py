# SPDX-License-Identifier: Apache-2.0
"""Means over an epoch: per pair, without what is not there."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine

from custom.handlers import MeanOutputs

NAN = float("nan")


def run(outputs: list[dict], sizes: list[int] | None = None) -> dict:
    """Metrics of an engine that puts out what it is given, in batches of the sizes (1 unless told)."""
    engine = Engine(lambda engine, batch: batch["output"])
    MeanOutputs().attach(engine)
    sizes = sizes or [1] * len(outputs)
    engine.run([{"moving": torch.zeros(size, 1), "output": out} for size, out in zip(sizes, outputs, strict=True)])
    return engine.state.metrics


def test_every_pair_weighs_the_same_in_uneven_batches():
    metrics = run([{"dice": torch.tensor([1.0, 2.0, 3.0])}, {"dice": torch.tensor([8.0])}])
    assert metrics == {"dice": 3.5}  # not (2 + 8) / 2


def test_the_mean_of_a_batch_counts_for_each_of_its_pairs():
    each = torch.tensor([1.0, 2.0, 3.0, 8.0])
    chunks = each.split(3)  # an uneven last batch
    metrics = run([{"loss": chunk.mean(), "dice": chunk} for chunk in chunks], [3, 1])
    assert metrics == {"loss": 3.5, "dice": 3.5}


def test_a_batch_whose_mean_is_not_there_counts_for_nothing():
    assert run([{"loss": torch.tensor(NAN)}, {"loss": torch.tensor(4.0)}], [3, 1]) == {"loss": 4.0}


def test_a_batch_without_pairs_is_named():
    engine = Engine(lambda engine, batch: {"loss": torch.tensor(1.0)})
    MeanOutputs().attach(engine)
    with pytest.raises(ValueError, match=r"an axis of pairs, got the keys \['index', 'name'\]"):
        engine.run([{"name": "a", "index": torch.tensor(0)}])


def test_what_is_not_there_is_left_out():
    metrics = run([{"dice": torch.tensor([0.5, NAN]), "none": torch.tensor([NAN])}, {"dice": torch.tensor([NAN, 0.7])}])
    assert metrics["dice"] == pytest.approx(0.6) and math.isnan(metrics["none"])


def test_infinity_is_not_hidden():
    assert run([{"loss": torch.tensor(math.inf)}, {"loss": torch.tensor(1.0)}])["loss"] == math.inf


def test_scalars_and_whole_numbers_are_taken_and_fields_are_not():
    metrics = run([{"loss": torch.tensor(2.0), "count": torch.tensor([1, 4]), "field": torch.ones(2, 3), "name": "a"}])
    assert metrics == {"loss": 2.0, "count": 2.5}
    assert all(type(value) is float for value in metrics.values())


def test_the_sum_is_exact_in_float32_inputs():
    metrics = run([{"loss": torch.tensor(0.1)}] * 1000)
    assert metrics["loss"] == pytest.approx(float(torch.tensor(0.1)), rel=1e-12)


def test_each_epoch_starts_anew():
    engine = Engine(lambda engine, batch: batch)
    MeanOutputs().attach(engine)
    for value in (1.0, 5.0):
        engine.run([{"loss": torch.tensor([value])}])
        assert engine.state.metrics == {"loss": value}


def test_no_gradient_is_kept():
    value = torch.ones(2, requires_grad=True)
    assert run([{"loss": value.sum()}]) == {"loss": 2.0}


def measure_in_process(rank: int, folder: str) -> None:
    """The metrics of one of two processes that measure different things, as a file."""
    outputs = (
        ({"loss": torch.tensor(1.0), "dice": torch.tensor([0.25, 0.5])}, 2),
        ({"extra": torch.tensor([7.0]), "loss": torch.tensor(4.0)}, 1),
    )
    metrics = run([outputs[rank][0]], [outputs[rank][1]])
    Path(folder, str(rank)).write_text(repr(metrics))


def test_processes_that_measure_different_things_agree(in_two_processes, tmp_path):
    in_two_processes(measure_in_process)
    expected = repr({"loss": 2.0, "dice": 0.375, "extra": 7.0})
    assert [(tmp_path / rank).read_text() for rank in "01"] == [expected, expected]
