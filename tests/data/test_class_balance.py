# SPDX-License-Identifier: Apache-2.0
"""Weights of classes against counting by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from custom.data import class_weights


def test_a_class_of_a_hundredth_of_the_voxels_weighs_ten_times_as_much() -> None:
    label = torch.zeros(1, 4, 5, 5)
    label.view(-1)[0] = 2  # 99 voxels of 0, none of 1, one of 2
    twice = SimpleNamespace(volumes=[{"label": label}, {"label": torch.flip(label, (1,))}])
    weights = class_weights(twice, classes=3)
    assert weights[1] == 0
    assert (weights[2] / weights[0]).item() == pytest.approx(99**0.5)
    assert ((weights[0] + weights[2]) / 2).item() == pytest.approx(1)
