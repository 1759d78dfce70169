# SPDX-License-Identifier: Apache-2.0
"""Dice and Hausdorff distance against boxes worked by hand and against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter

from custom.metrics import segmentation_measures


def box(low, high, value=1, shape=(20, 20, 20)) -> torch.Tensor:
    labels = torch.zeros(shape)
    labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = value
    return labels


def test_shifted_boxes_by_hand():
    """Boxes of 8 voxels a side, 2 apart on the first axis: 6/8 overlap; the farthest sides lie 2 voxels apart."""
    first, second = box((4, 4, 4), (12, 12, 12), 3), box((6, 4, 4), (14, 12, 12), 3)
    measures = segmentation_measures(second, first, {"heart": 3}, (1.5, 1.0, 1.0))
    assert measures["dice"]["heart"] == pytest.approx(0.75)
    assert measures["hausdorff95"]["heart"] == pytest.approx(3.0)  # 2 voxels of 1.5 mm
    turned = segmentation_measures(second.movedim(0, 2), first.movedim(0, 2), {"heart": 3}, (1.5, 1.0, 1.0))
    assert turned["hausdorff95"]["heart"] == pytest.approx(2.0)


def surface_distances(first: np.ndarray, second: np.ndarray, spacing) -> np.ndarray:
    """Distances (mm) from the surface voxels of one mask to those of the other."""
    surfaces = [mask & ~binary_erosion(mask) for mask in (first, second)]
    return distance_transform_edt(~surfaces[1], sampling=spacing)[surfaces[0]]


@pytest.mark.parametrize("seed", range(3))
def test_against_scipy(seed):
    noise = [gaussian_filter(np.random.default_rng([seed, n]).normal(size=(24, 20, 18)), 3) for n in range(2)]
    noise[1] = 0.5 * noise[0] + 0.5 * noise[1]
    labels = [np.digitize(volume / volume.std(), (0.3, 1.0)) for volume in noise]
    spacing = (0.7, 1.3, 2.1)
    found = segmentation_measures(*(torch.from_numpy(volume) for volume in labels), {"one": 1, "two": 2}, spacing)
    for name, value in (("one", 1), ("two", 2)):
        masks = [volume == value for volume in labels]
        dice = 2 * (masks[0] & masks[1]).sum() / (masks[0].sum() + masks[1].sum())
        both = [surface_distances(*pair, spacing) for pair in (masks, masks[::-1])]
        expected = max(np.percentile(distances, 95) for distances in both)
        assert found["dice"][name] == pytest.approx(dice, abs=1e-6)
        assert found["hausdorff95"][name] == pytest.approx(expected, rel=0.02)


def test_absent_structures():
    reference, empty = box((4, 4, 4), (9, 9, 9)), torch.zeros(20, 20, 20)
    structures = {"heart": 1}
    missed = segmentation_measures(empty, reference, structures, (1, 1, 1))
    assert missed["dice"]["heart"] == 0 and np.isnan(missed["hausdorff95"]["heart"])
    for prediction in (reference, empty):  # the reference does not hold it
        invented = segmentation_measures(prediction, empty, structures, (1, 1, 1))
        assert np.isnan(invented["dice"]["heart"]) and np.isnan(invented["hausdorff95"]["heart"])


def test_a_perfect_prediction():
    reference = box((4, 4, 4), (9, 12, 9))
    assert segmentation_measures(reference, reference, {"heart": 1}, (1, 2, 3)) == {
        "dice": {"heart": 1.0},
        "hausdorff95": {"heart": 0.0},
    }


def test_maps_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 4, 5\), the reference of \(3, 4, 6\)"):
        segmentation_measures(torch.zeros(3, 4, 5), torch.zeros(3, 4, 6), {"heart": 1}, (1, 1, 1))
