# SPDX-License-Identifier: Apache-2.0
"""Measures of a score that separates one class from the others: ROC, its area with an interval, rates."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata


def roc_auc(score: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Area under the ROC curve: the probability that a positive case has a higher score than a negative one.

    Two equal scores count as one half.

    Args:
        score: (..., cases), higher for the positive class.
        positive: (..., cases), bool.

    Returns:
        (...), from 0 to 1.

    Raises:
        ValueError: all cases are of one class.
    """
    positives = positive.sum(axis=-1)
    negatives = positive.shape[-1] - positives
    if np.any(positives == 0) or np.any(negatives == 0):
        raise ValueError(f"{positives} positive and {negatives} negative cases, the AUC needs both classes")
    ranks = np.where(positive, rankdata(score, axis=-1), 0).sum(axis=-1)
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def bootstrap_auc(
    score: np.ndarray, positive: np.ndarray, draws: int = 2000, share: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the AUC by a bootstrap that is stratified by class.

    A bootstrap sample has as many cases of each class as the data; they are drawn with replacement.

    Args:
        score: (cases,), higher for the positive class.
        positive: (cases,), bool.
        draws: number of bootstrap samples.
        share: of the bootstrap samples inside the interval.
        seed: of the draws.

    Returns:
        lower and upper end.
    """
    generator = np.random.default_rng(seed)
    members = [np.flatnonzero(positive), np.flatnonzero(~positive)]
    chosen = np.concatenate([generator.choice(group, (draws, len(group))) for group in members], axis=1)
    areas = roc_auc(score[chosen], positive[chosen])
    low, high = np.quantile(areas, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def roc_curve(score: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates, (points,) each, for thresholds from above the highest score down to the lowest."""
    order = np.argsort(-score, kind="stable")
    last_of_ties = np.append(np.diff(score[order]) != 0, True)
    counts = [np.cumsum(group[order])[last_of_ties] / group.sum() for group in (~positive, positive)]
    return np.append(0.0, counts[0]), np.append(0.0, counts[1])


def rates(score: np.ndarray, positive: np.ndarray, threshold: float) -> dict[str, float]:
    """Sensitivity and specificity if scores of at least `threshold` count as positive."""
    called = score >= threshold
    return {"sensitivity": float(called[positive].mean()), "specificity": float((~called)[~positive].mean())}
