# SPDX-License-Identifier: Apache-2.0
"""AUC, its interval and rates against a naive count, MONAI and scikit-learn."""

import numpy as np
import pytest
import torch
from monai.metrics import compute_roc_auc
from scipy.integrate import trapezoid

from custom.metrics import bootstrap_auc, rates, roc_auc, roc_curve


@pytest.fixture
def cases() -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties, and who is positive."""
    generator = np.random.default_rng(3)
    positive = generator.random(60) < 0.4
    return np.round(generator.normal(positive * 0.8, 1), 1), positive


def test_auc_counts_pairs(cases):
    score, positive = cases
    wins = [float(a > b) + 0.5 * (a == b) for a in score[positive] for b in score[~positive]]
    assert roc_auc(score, positive) == pytest.approx(np.mean(wins), abs=1e-12)
    assert compute_roc_auc(torch.tensor(score), torch.tensor(positive).int()) == pytest.approx(np.mean(wins), abs=1e-6)


def test_perfect_reversed_constant():
    positive = np.array([True, True, False])
    assert roc_auc(np.array([3.0, 2, 1]), positive) == 1
    assert roc_auc(np.array([1.0, 2, 3]), positive) == 0
    assert roc_auc(np.array([1.0, 1, 1]), positive) == 0.5


def test_batched(cases):
    score, positive = cases
    both = roc_auc(np.stack([score, -score]), np.stack([positive, positive]))
    assert both.sum() == pytest.approx(1) and both[0] == roc_auc(score, positive)


def test_one_class():
    with pytest.raises(ValueError, match="0 positive and 3 negative"):
        roc_auc(np.arange(3.0), np.zeros(3, bool))


def test_interval_holds_the_area_is_seeded_and_shrinks(cases):
    score, positive = cases
    low, high = bootstrap_auc(score, positive, seed=1)
    assert 0 <= low < roc_auc(score, positive) < high <= 1
    assert bootstrap_auc(score, positive, seed=1) == (low, high) != bootstrap_auc(score, positive, seed=2)
    more = bootstrap_auc(np.tile(score, 16), np.tile(positive, 16), seed=1)
    assert more[1] - more[0] == pytest.approx((high - low) / 4, rel=0.15)  # a quarter with sixteen times the cases
    inner = bootstrap_auc(score, positive, share=0.5, seed=1)
    assert low < inner[0] < inner[1] < high


def test_the_bootstrap_draws_from_each_class_as_many_cases_as_it_has():
    """Positive cases of score 1 and 3, negative ones of score 2: with two positive cases drawn, the AUC is 0, 1/2 or 1
    in 1, 2 and 1 of 4 draws. Four would give 1/4 as well; draws from all cases together may lack a class."""
    score, positive = np.array([1.0, 2.0, 2.0, 2.0, 2.0, 3.0]), np.array([True, False, False, False, False, True])
    assert bootstrap_auc(score, positive, share=0.4) == (0.5, 0.5)  # quantiles 0.3 and 0.7
    assert bootstrap_auc(score, positive, share=0.6) == (0, 1)  # quantiles 0.2 and 0.8


def test_curve_is_that_of_scikit_learn(cases):
    metrics = pytest.importorskip("sklearn.metrics")
    score, positive = cases
    false_rate, true_rate, _ = metrics.roc_curve(positive, score, drop_intermediate=False)
    np.testing.assert_allclose(roc_curve(score, positive), [false_rate, true_rate])
    assert trapezoid(true_rate, false_rate) == pytest.approx(roc_auc(score, positive))


def test_rates():
    score, positive = np.array([0.9, 0.5, 0.4, 0.6, 0.1, 0.2]), np.array([True, True, True, False, False, False])
    assert rates(score, positive, 0.5) == {"sensitivity": pytest.approx(2 / 3), "specificity": pytest.approx(2 / 3)}
    assert rates(score, positive, 0.0) == {"sensitivity": 1, "specificity": 0}
