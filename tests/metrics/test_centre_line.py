# SPDX-License-Identifier: Apache-2.0
"""The centre-line Dice: hand-worked tubes, what Dice does not see, the metric over volumes."""

import math

import pytest
import torch

from custom.metrics import CentreLineDice, centre_line_dice, segmentation_measures


def tube(half_width: int = 1, start: int = 2, stop: int = 22, offset: int = 0) -> torch.Tensor:
    """A bar along the last axis, 2 * half_width + 1 voxels wide."""
    mask = torch.zeros(15, 15, 24, dtype=torch.bool)
    low, high = 7 - half_width, 8 + half_width
    mask[low + offset : high + offset, low:high, start:stop] = True
    return mask


def test_width_does_not_count_but_gaps_do():
    reference = tube(1)
    assert centre_line_dice(reference, reference) == 1.0
    assert centre_line_dice(tube(2), reference) > 0.9  # Dice: 2 * 9 / (25 + 9) = 0.53
    half = centre_line_dice(tube(1, 2, 12), reference)  # precision 1, sensitivity a half
    assert half == pytest.approx(2 * 0.5 / 1.5, abs=0.06)
    assert centre_line_dice(tube(1, offset=4), reference) == 0.0


def test_it_is_symmetric_and_bounded():
    generator = torch.Generator().manual_seed(3)
    first, second = (torch.rand(12, 12, 12, generator=generator) > 0.7 for _ in range(2))
    value = centre_line_dice(first, second)
    assert 0 < value < 1 and value == pytest.approx(centre_line_dice(second, first))


def test_empty_masks_and_wrong_shapes():
    empty = torch.zeros(8, 8, 8)
    assert math.isnan(centre_line_dice(empty, empty)) and math.isnan(centre_line_dice(torch.ones(8, 8, 8), empty))
    assert centre_line_dice(empty, torch.ones(8, 8, 8)) == 0.0
    with pytest.raises(ValueError, match=r"\(8, 8, 8\) and \(8, 8, 9\)"):
        centre_line_dice(empty, torch.zeros(8, 8, 9))
    with pytest.raises(ValueError, match="three-dimensional"):
        centre_line_dice(empty[0], empty[0])


def test_a_cube_whose_skeleton_vanishes_still_counts():
    cube = torch.zeros(10, 10, 10)
    cube[3:7, 3:7, 3:7] = 1
    assert centre_line_dice(cube, cube) == 1.0 and centre_line_dice(tube()[:10, :10, :10], cube) < 1


def test_the_metric_averages_over_structures_and_volumes():
    reference = tube().long() + 2 * tube(offset=4).long()
    found = tube().long()  # the second structure is missed
    metric = CentreLineDice(num_classes=3)
    metric([found[None], reference[None]], [reference[None], tube().long()[None]])
    assert float(metric.aggregate()) == pytest.approx((1 + 0 + 1) / 3)  # the second volume lacks structure 2
    metric.reset()
    metric(reference[None, None], reference[None, None])
    assert float(metric.aggregate()) == 1.0


def test_it_comes_with_the_other_measures_when_asked_for():
    structures = {"artery": 1}
    measures = segmentation_measures(tube(2).long(), tube(1).long(), structures, (1, 1, 1), centre_lines=True)
    assert measures["centre_line_dice"]["artery"] == centre_line_dice(tube(2), tube(1))
    assert "centre_line_dice" not in segmentation_measures(tube().long(), tube().long(), structures, (1, 1, 1))
