# SPDX-License-Identifier: Apache-2.0
"""The collapse monitor sees a collapse, and only a collapse."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine

from custom.handlers import FeatureSpread


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def run(outputs: list[dict], **arguments) -> dict:
    engine = Engine(lambda engine, batch: batch)
    FeatureSpread(**arguments).attach(engine)
    engine.run(outputs)
    return engine.state.metrics


def test_lively_features():
    metrics = run([{"local": 2 * noise(2, 6, 8, 8, 8, seed=i), "bottleneck": noise(2, 4, 4, 4, 4)} for i in range(3)])
    assert set(metrics) == {
        f"{kind}_{name}" for kind in ("effective_rank", "spread") for name in ("local", "bottleneck")
    }
    assert metrics["effective_rank_local"] == pytest.approx(6, abs=0.1)
    assert metrics["spread_local"] == pytest.approx(2, abs=0.1)
    assert metrics["effective_rank_bottleneck"] == pytest.approx(4, abs=0.3)


def test_a_collapse_to_a_point():
    metrics = run([{"local": torch.full((2, 6, 8, 8, 8), 0.37)}] * 2, names=("local",))
    assert metrics["effective_rank_local"] == pytest.approx(1, abs=1e-6)
    assert metrics["spread_local"] == pytest.approx(0, abs=1e-6)


def test_a_collapse_to_a_line():
    direction = torch.arange(1.0, 7).view(1, 6, 1, 1, 1)
    metrics = run([{"local": noise(2, 1, 8, 8, 8, seed=i) * direction} for i in range(2)], names=("local",))
    assert metrics["effective_rank_local"] == pytest.approx(1, abs=1e-3) and metrics["spread_local"] > 1


def test_a_collapse_within_each_volume_is_not_one_between_volumes():
    # every volume constant, but each another: the samples of all batches are looked at together
    metrics = run([{"local": noise(1, 6, 1, 1, 1, seed=i).expand(1, 6, 4, 4, 4)} for i in range(20)], names=("local",))
    assert metrics["effective_rank_local"] > 4


def test_channels_are_not_mixed_up_with_voxels():
    # one channel varies, all others are constant
    features = torch.ones(2, 6, 8, 8, 8)
    features[:, 2] = noise(2, 8, 8, 8)
    metrics = run([{"local": features}], names=("local",))
    assert metrics["effective_rank_local"] == pytest.approx(1, abs=1e-3)
    assert metrics["spread_local"] == pytest.approx(1 / 6, abs=0.02)


def test_the_sample_is_seeded_and_draws_no_global_random_numbers():
    outputs = [{"local": noise(2, 6, 8, 8, 8, seed=i).square()} for i in range(2)]
    state = torch.get_rng_state()
    metrics = [run(outputs, names=("local",), voxels=64, seed=seed) for seed in (0, 0, 1)]
    assert metrics[0] == metrics[1] != metrics[2]
    assert torch.equal(torch.get_rng_state(), state)


def test_half_precision_features_are_taken():
    metrics = run([{"local": noise(2, 6, 8, 8, 8).bfloat16()}], names=("local",))
    assert metrics["effective_rank_local"] == pytest.approx(6, abs=0.1)


def test_each_epoch_starts_anew():
    engine = Engine(lambda engine, batch: batch)
    FeatureSpread(names=("local",)).attach(engine)
    for features, rank in ((noise(2, 6, 8, 8, 8), 6), (torch.ones(2, 6, 8, 8, 8), 1)):
        engine.run([{"local": features}])
        assert engine.state.metrics["effective_rank_local"] == pytest.approx(rank, abs=0.1)
