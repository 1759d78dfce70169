# SPDX-License-Identifier: Apache-2.0
"""Contrast of matched places: worked by hand, a naive loop, what is left out, gradients, errors."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from custom.losses import MatchedContrastLoss, matched_contrast


def make(pairs: int = 2, places: int = 40, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    moving, fixed = (F.normalize(torch.randn(pairs, 4, places, dtype=dtype, generator=generator), dim=1) for _ in "ab")
    position = torch.randint(0, 8, (pairs, 3, places), generator=generator).to(dtype)
    return moving, fixed, position, torch.rand(pairs, places, generator=generator) > 0.3


def far_apart(places: int) -> torch.Tensor:
    return 10 * torch.arange(places, dtype=torch.float64).expand(1, 3, -1)


def test_worked_by_hand():
    features = torch.eye(2, dtype=torch.float64)[None]  # each place agrees with its match, cosine 1, and with no other
    loss = matched_contrast(features, features, far_apart(2), torch.ones(1, 2, dtype=torch.bool), temperature=0.5)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)))  # -log(e^2 / (e^2 + e^0))


def test_a_loop_agrees():
    moving, fixed, position, valid = make()
    found = matched_contrast(moving, fixed, position, valid, exclusion=3.0, temperature=0.2)
    for n in range(2):
        terms = []
        for p in valid[n].nonzero().flatten().tolist():
            for one, other in ((fixed, moving), (moving, fixed)):
                others = [
                    q
                    for q in range(40)
                    if q == p or (valid[n, q] and (position[n, :, p] - position[n, :, q]).norm() > 3.0)
                ]
                scores = torch.stack([one[n, :, p] @ other[n, :, q] / 0.2 for q in others])
                terms.append(scores.logsumexp(0) - scores[others.index(p)])
        torch.testing.assert_close(found[n], torch.stack(terms).mean())


def test_places_near_each_other_are_no_mismatch():
    moving, fixed, position, _ = make()
    loss = matched_contrast(moving, fixed, position * 0.01, torch.ones(2, 40, dtype=torch.bool))
    assert loss.tolist() == [0, 0]


def test_without_a_valid_place_there_is_no_loss_and_no_gradient():
    moving, fixed, position, _ = make()
    moving.requires_grad_()
    loss = matched_contrast(moving, fixed, position, torch.zeros(2, 40, dtype=torch.bool))
    loss.sum().backward()
    assert loss.tolist() == [0, 0] and moving.grad.abs().max() == 0


def test_a_batch_of_two_is_two_batches_of_one():
    arguments = make()
    single = [matched_contrast(*(argument[n : n + 1] for argument in arguments)) for n in range(2)]
    torch.testing.assert_close(matched_contrast(*arguments), torch.cat(single))


def test_gradcheck():
    moving, fixed, position, valid = make(places=6)
    inputs = moving.requires_grad_(), fixed.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: matched_contrast(a, b, position, valid, temperature=0.5), inputs)


def test_in_half_precision_it_is_float32():
    moving, fixed, position, valid = make(dtype=torch.float32)
    loss = MatchedContrastLoss()(moving.bfloat16(), fixed.bfloat16(), position, valid)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, matched_contrast(moving, fixed, position, valid).mean(), rtol=0.05, atol=0)


def test_errors():
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        MatchedContrastLoss(temperature=0)
