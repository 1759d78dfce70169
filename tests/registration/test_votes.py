# SPDX-License-Identifier: Apache-2.0
"""Label fusion: votes of registered label maps, split between values by interpolation."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from custom.registration import Vote, elect, votes

UNIT = np.eye(4)


def still(label: np.ndarray) -> Vote:
    """The vote of an atlas that lies where the volume does, its field on a grid of two voxels an axis."""
    return Vote(label, UNIT, np.zeros((3, 2, 2, 2), np.float32), np.diag([4.0, 4.0, 4.0, 1.0]))


def test_most_votes_win_and_of_equal_ones_the_smallest_value():
    maps = np.array([[0, 5, 5, 0, 2], [0, 5, 3, 4, 1], [0, 5, 3, 0, 0]], np.int16).reshape(3, 5, 1, 1)
    winner, agreement = elect([still(label) for label in maps], UNIT, (5, 1, 1))
    assert winner.ravel().tolist() == [0, 5, 3, 0, 0]  # of 0, 1 and 2, one vote each, the smallest
    assert agreement == pytest.approx((1 + 2 / 3 + 2 / 3 + 1 / 3) / 4, abs=1e-4)


def test_maps_of_background_have_no_agreement():
    winner, agreement = elect([still(np.zeros((3, 4, 2), np.int16))] * 2, UNIT, (3, 4, 2))
    assert not winner.any() and agreement is None


def test_a_vote_is_the_interpolated_map_of_each_value(monkeypatch):
    """Against one interpolation by SciPy for each value, with shears and outside the label maps, slab by slab."""
    rng = np.random.default_rng(0)
    affine = np.array([[1.5, 0.2, 0.0, -3.0], [0.0, -2.0, 0.1, 9.0], [0.0, 0.3, 1.8, 1.0], [0.0, 0.0, 0.0, 1.0]])
    grid, shape = np.diag([0.9, 1.0, 1.1, 1.0]), (11, 10, 9)
    atlases = []
    for dtype, values in ((np.int16, [0, 2, 7]), (np.int32, [0, 7, 70000]), (np.int16, [-4, 0, 2])):
        field = rng.normal(0, 2, (3, *shape)).astype(np.float32)
        atlases.append(Vote(rng.choice(values, (7, 6, 5)).astype(dtype), affine, field, grid))
    scores = {value: np.zeros(shape) for value in (-4, 0, 2, 7, 70000)}
    for atlas in atlases:
        points = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")) * np.reshape(
            [0.9, 1.0, 1.1], (3, 1, 1, 1)
        )
        points = points + atlas.field - affine[:3, 3].reshape(3, 1, 1, 1)
        position = np.einsum("ij,j...->i...", np.linalg.inv(affine[:3, :3]), points)
        sides = np.reshape(atlas.label.shape, (3, 1, 1, 1))
        inside = ((position >= -0.5) & (position < sides - 0.5)).all(0)
        for value, score in scores.items():
            share = map_coordinates((atlas.label == value).astype(float), position, order=1, mode="nearest")
            score += np.where(inside, share, value == 0)
    stacked = np.stack(list(scores.values()))
    first, second = np.sort(stacked, 0)[[-1, -2]]
    monkeypatch.setattr(votes, "SCORES", 5 * 10 * 9 * 4)  # slabs of four rows
    winner, agreement = elect(atlases, grid, shape)
    clear = first - second > 1e-4
    assert winner.dtype == np.int32 and clear.mean() > 0.9
    assert (winner == np.array(list(scores))[stacked.argmax(0)])[clear].all()
    assert agreement == pytest.approx((first[scores[0] < 3 - 1e-3] / 3).mean(), abs=1e-3)


def test_a_finer_grid_gets_a_smooth_surface():
    """The map of a ball, 3 mm, voted for on a grid of 1 mm: closer to the ball than its nearest voxels."""

    def ball(side: int, spacing: float) -> np.ndarray:
        axes = [np.arange(side) * spacing] * 3
        return (sum((axis - 30) ** 2 for axis in np.meshgrid(*axes, indexing="ij")) < 20**2).astype(np.int16)

    coarse, truth = ball(21, 3.0), ball(61, 1.0)
    atlas = Vote(
        coarse, np.diag([3.0, 3.0, 3.0, 1.0]), np.zeros((3, 2, 2, 2), np.float32), np.diag([60.0, 60.0, 60.0, 1])
    )
    winner, _ = elect([atlas], UNIT, truth.shape)
    index = np.rint(np.arange(61) / 3).astype(int)
    nearest = coarse[np.ix_(index, index, index)]
    assert (winner != truth).sum() < 0.6 * (nearest != truth).sum()
