# SPDX-License-Identifier: Apache-2.0
"""Loss with absent structures: against a naive loop, what is punished and what is not, shapes."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss

from custom.losses import MarginalLoss, marginal_logits

ABSENT = torch.tensor([[False, False, True, True], [False, False, False, False]])
DICE_CE = DiceCELoss(to_onehot_y=True, softmax=True)


def logits(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def labels(classes: list[int], *shape: int) -> torch.Tensor:
    chosen = torch.randint(len(classes), shape, generator=torch.Generator().manual_seed(1))
    return torch.tensor(classes)[chosen]


def test_probabilities_are_those_of_a_naive_loop() -> None:
    values = logits(2, 4, 2, 3, 2)
    probabilities = marginal_logits(values, ABSENT).softmax(1)
    for n in range(2):
        for x, y, z in torch.cartesian_prod(*(torch.arange(side) for side in (2, 3, 2))).tolist():
            expected = [float(value) for value in values[n, :, x, y, z].softmax(0)]
            for index in range(1, 4):
                if ABSENT[n, index]:
                    expected[0], expected[index] = expected[0] + expected[index], 0.0
            torch.testing.assert_close(probabilities[n, :, x, y, z], torch.tensor(expected, dtype=torch.float64))


def test_without_absent_structures_it_is_the_loss_itself() -> None:
    values, label = logits(1, 4, 4, 4, 4), labels([0, 1, 2, 3], 1, 1, 4, 4, 4)
    torch.testing.assert_close(MarginalLoss(DICE_CE)(values, (label, ABSENT[1:])), DICE_CE(values, label))


def test_an_absent_structure_in_the_background_is_not_punished() -> None:
    """However the background and the absent structures share the voxels: background 9 or absent 9 are the same."""
    label = labels([0, 1], 1, 1, 4, 4, 4)
    right = 9.0 * torch.cat((label == 0, label == 1, torch.zeros(1, 2, 4, 4, 4)), 1)
    swapped = right[:, [2, 1, 0, 3]]
    loss = MarginalLoss(DICE_CE)
    torch.testing.assert_close(loss(swapped, (label, ABSENT[:1])), loss(right, (label, ABSENT[:1])))
    assert loss(right, (label, ABSENT[:1])) < 0.01 < 1 < DICE_CE(swapped, label)


def test_an_absent_structure_on_an_annotated_one_is_punished() -> None:
    label = labels([0, 1], 1, 1, 4, 4, 4)
    wrong = 9.0 * torch.cat((label == 0, torch.zeros(1, 1, 4, 4, 4), label == 1, torch.zeros(1, 1, 4, 4, 4)), 1)
    assert MarginalLoss(DICE_CE)(wrong, (label, ABSENT[:1])) > 1


def test_gradients() -> None:
    values, label = logits(2, 4, 2, 2, 2).requires_grad_(), labels([0, 1], 2, 1, 2, 2, 2)
    assert torch.autograd.gradcheck(lambda value: MarginalLoss(DICE_CE)(value, (label, ABSENT)), values)


def test_half_precision_is_computed_in_float32() -> None:
    values = 50 * logits(2, 4, 2, 2, 2).half()
    assert marginal_logits(values, ABSENT).dtype == torch.float32
    loss = MarginalLoss(DICE_CE)(values.requires_grad_(), (labels([0, 1], 2, 1, 2, 2, 2), ABSENT))
    loss.backward()
    assert loss.isfinite() and values.grad.isfinite().all()


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"absent is of shape \(2, 3\), expected \(2, 4\)"):
        marginal_logits(logits(2, 4, 2, 2, 2), ABSENT[:, :3])
    with pytest.raises(ValueError, match="the background is absent"):
        marginal_logits(logits(2, 4, 2, 2, 2), ~ABSENT)
