# SPDX-License-Identifier: Apache-2.0
"""Means over an epoch: per pair, without what is not there."""

from __future__ import annotations

import math

import pytest
import torch
from ignite.engine import Engine

from custom.handlers import MeanOutputs

NAN = float("nan")


def run(outputs: list[dict], epochs: int = 1) -> dict:
    """Metrics of an engine that puts out what it is given."""
    engine = Engine(lambda engine, batch: batch)
    MeanOutputs().attach(engine)
    for _ in range(epochs):
        engine.run(outputs)
    return engine.state.metrics


def test_every_pair_weighs_the_same_in_uneven_batches():
    metrics = run([{"dice": torch.tensor([1.0, 2.0, 3.0])}, {"dice": torch.tensor([8.0])}])
    assert metrics == {"dice": 3.5}  # not (2 + 8) / 2


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
        engine.run([{"loss": torch.tensor(value)}])
        assert engine.state.metrics == {"loss": value}


def test_no_gradient_is_kept():
    value = torch.ones(2, requires_grad=True)
    assert run([{"loss": value.sum()}]) == {"loss": 2.0}
