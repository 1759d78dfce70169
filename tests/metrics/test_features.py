# SPDX-License-Identifier: Apache-2.0
"""Effective rank and label recovery at their known ends."""

from __future__ import annotations

import math

import pytest
import torch

from custom.metrics import LabelRecovery, effective_rank


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("value", [0.0, 0.1, 7.3])
def test_equal_features_have_rank_one(value):
    assert effective_rank(torch.full((100, 8), value)).item() == pytest.approx(1)


def test_features_on_a_line_have_rank_one_wherever_the_line_lies():
    features = noise(200, 1) * noise(1, 8, seed=1) + 5
    assert effective_rank(features).item() == pytest.approx(1, abs=1e-3)


def test_isotropic_features_have_full_rank():
    assert effective_rank(noise(20_000, 8)).item() == pytest.approx(8, abs=0.01)
    rotation, _ = torch.linalg.qr(noise(8, 8, seed=1))
    assert effective_rank(noise(20_000, 8) @ rotation * 1e-3).item() == pytest.approx(8, abs=0.01)


def test_worked_by_hand():
    # centred, with singular values 3, 3, 1.5, 0: shares 0.4, 0.4, 0.2
    features = torch.zeros(6, 4)
    for channel, value in enumerate((3.0, 3.0, 1.5)):
        features[2 * channel, channel], features[2 * channel + 1, channel] = value, -value
    expected = math.exp(-0.4 * math.log(0.4) * 2 - 0.2 * math.log(0.2))
    assert effective_rank(features).item() == pytest.approx(expected)


def test_fewer_samples_than_channels():
    rank = effective_rank(noise(5, 64)).item()
    assert 3.5 < rank <= 4  # centring takes one of the five


def make(labels: torch.Tensor, features: torch.Tensor, fixed=None, fixed_features=None) -> tuple[dict, dict]:
    """Outputs and batch of one pair or more; the fixed volume is the moving one unless given."""
    fixed = labels if fixed is None else fixed
    fixed_features = features if fixed_features is None else fixed_features
    batch = {"moving_label": labels, "fixed_label": fixed}
    return {"local": torch.cat((features, fixed_features))}, batch


def test_identical_volumes_are_recovered():
    labels = torch.randint(0, 4, (2, 1, 8, 8, 8), generator=torch.Generator().manual_seed(0))
    measured = LabelRecovery((1, 2, 3))(*make(labels, noise(2, 8, 8, 8, 8)))
    assert measured["label_recovery"].tolist() == [1, 1]


def test_random_features_recover_by_chance():
    labels = torch.randint(0, 4, (1, 1, 16, 16, 16), generator=torch.Generator().manual_seed(0)).float()
    measured = LabelRecovery((1, 2, 3))(*make(labels, noise(1, 8, 16, 16, 16), labels, noise(1, 8, 16, 16, 16, seed=1)))
    assert measured["label_recovery"].item() == pytest.approx(0.25, abs=0.03)


def test_features_are_compared_by_direction_and_lost_to_background():
    # three voxels of the fixed volume, two of the moving: label 5 along axis 0, background along axis 1
    moving = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).T.reshape(1, 2, 2, 1, 1)
    fixed = torch.tensor([[100.0, 1.0], [0.1, 1.0]]).T.reshape(1, 2, 2, 1, 1)
    labels, fixed_labels = torch.tensor([5, 0]).view(1, 1, 2, 1, 1), torch.tensor([5, 5]).view(1, 1, 2, 1, 1)
    measured = LabelRecovery((5,))(*make(labels, moving, fixed_labels, fixed))
    assert measured["label_recovery"].item() == 0.5  # the first is found, the second taken for background


def test_only_the_named_labels_of_the_fixed_volume_are_asked_for():
    features = torch.eye(3).view(1, 3, 3, 1, 1)
    labels, fixed = torch.tensor([1, 2, 0]).view(1, 1, 3, 1, 1), torch.tensor([1, 9, 7]).view(1, 1, 3, 1, 1)
    assert LabelRecovery((1,))(*make(labels, features, fixed))["label_recovery"].item() == 1
    assert LabelRecovery((1, 9))(*make(labels, features, fixed))["label_recovery"].item() == 0.5


def test_a_volume_without_labels_is_not_a_number():
    labels = torch.ones(2, 1, 4, 4, 4, dtype=torch.int16)
    labels[1] = 0
    measured = LabelRecovery((1,))(*make(labels, noise(2, 8, 4, 4, 4)))["label_recovery"]
    assert measured[0] == 1 and measured[1].isnan()


def test_the_sample_is_seeded():
    labels = torch.randint(0, 4, (1, 1, 12, 12, 12), generator=torch.Generator().manual_seed(0))
    tensors = make(labels, noise(1, 2, 12, 12, 12), labels, noise(1, 2, 12, 12, 12, seed=1))
    state = torch.get_rng_state()
    values = [LabelRecovery((1, 2, 3), 100, seed)(*tensors)["label_recovery"].item() for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]
    assert torch.equal(torch.get_rng_state(), state)  # validation does not change what training draws


def test_nothing_is_measured_without_labels():
    outputs, batch = make(torch.ones(1, 1, 2, 2, 2), noise(1, 2, 2, 2, 2))
    assert LabelRecovery(())(outputs, batch) == {}
    assert LabelRecovery((1,))(outputs, {"moving_label": batch["moving_label"]}) == {}
