# SPDX-License-Identifier: Apache-2.0
"""The similarity head: cost volume against a naive loop, known shifts, several levels, gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from custom.networks import KeypointAffineHead, SimilarityHead, ZMatchingHead
from custom.networks.similarity import cost_volume, most_similar_offset, offsets, unit_length

SHARP = 0.01  # a temperature at which random features of 16 channels are all but one-hot


def features(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def blurred(*shape: int, seed: int = 0) -> torch.Tensor:
    """Features that change slowly enough to be found again at half and quarter resolution."""
    coarse = features(*shape[:2], *(side // 4 for side in shape[2:]), seed=seed)
    return F.interpolate(coarse, size=shape[2:], mode="trilinear")


def shifted(volume: torch.Tensor, *shift: int) -> torch.Tensor:
    """The volume moved by whole voxels: what was at p is at p + shift."""
    return volume.roll(shift, (2, 3, 4))


def inside(displacement: torch.Tensor, margin: int) -> torch.Tensor:
    """Without the border, which the rolled volume fills with its other end."""
    return displacement[:, :, margin:-margin, margin:-margin, margin:-margin]


def assert_is_shift(displacement: torch.Tensor, shift: tuple[int, int, int], atol: float, margin: int) -> None:
    interior = inside(displacement, margin)
    expected = interior.new_tensor(shift)[None, :, None, None, None].expand_as(interior)
    torch.testing.assert_close(interior, expected, atol=atol, rtol=0)


def test_cost_volume_and_soft_argmax_are_those_of_a_naive_loop() -> None:
    moving, fixed = unit_length(features(2, 3, 3, 4, 2)), unit_length(features(2, 3, 3, 4, 2, seed=1))
    cost, offset = cost_volume(moving, fixed, 1), most_similar_offset(moving, fixed, 1, 0.3)
    for n in range(2):
        for x, y, z in torch.cartesian_prod(*(torch.arange(side) for side in (3, 4, 2))).tolist():
            naive = []
            for i, j, k in offsets(1):
                there = min(max(x + i, 0), 2), min(max(y + j, 0), 3), min(max(z + k, 0), 1)
                naive.append(sum(float(fixed[n, c, x, y, z] * moving[(n, c, *there)]) for c in range(3)))
            weights = torch.tensor([value / 0.3 for value in naive], dtype=torch.float64).exp()
            expected = (weights[:, None] * torch.tensor(offsets(1), dtype=torch.float64)).sum(0) / weights.sum()
            torch.testing.assert_close(cost[n, :, x, y, z], torch.tensor(naive, dtype=torch.float64))
            torch.testing.assert_close(offset[n, :, x, y, z], expected)


def test_gradients() -> None:
    torch.manual_seed(0)
    head = SimilarityHead(2, 3, levels=((2, 1), (1, 1)), temperature=0.5).double()
    moving, fixed = (features(1, 2, 4, 2, 3, seed=seed).requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(head, (moving, fixed))
    assert torch.autograd.gradcheck(lambda a, b: cost_volume(a, b, 1), (moving, fixed))


@pytest.mark.parametrize("shift", [(0, 0, 0), (2, -1, 1), (-2, 2, 0)])
def test_whole_shifts_are_found_to_a_tenth_of_a_voxel(shift: tuple[int, int, int]) -> None:
    fixed = features(1, 16, 12, 13, 14)
    head = SimilarityHead(16, levels=((1, 2),), temperature=SHARP)
    assert_is_shift(head(shifted(fixed, *shift), fixed), shift, atol=0.1, margin=4)


def test_equal_features_give_no_displacement_at_any_level() -> None:
    volume = features(2, 16, 21, 22, 24)
    head = SimilarityHead(16, levels=((2, 2), (1, 1)), temperature=SHARP)
    assert inside(head(volume, volume), 8).abs().max() < 0.1


def test_a_coarse_level_counts_in_cells_of_its_stride() -> None:
    fixed = features(1, 16, 9, 9, 9).repeat_interleave(4, 2).repeat_interleave(4, 3).repeat_interleave(4, 4)
    head = SimilarityHead(16, levels=((4, 1),), temperature=SHARP)
    assert_is_shift(head(shifted(fixed, 4, 0, -4), fixed), (4, 0, -4), atol=0.1, margin=16)


def test_a_fine_level_adds_what_the_coarse_one_leaves() -> None:
    """Five voxels are out of reach for the fine level, and no multiple of the coarse cell."""
    shift, fixed = (5, -3, 0), blurred(1, 32, 32, 32, 32)
    moving = shifted(fixed, *shift)
    errors = {}
    for levels in (((4, 2),), ((1, 2),), ((4, 2), (1, 2))):
        field = inside(SimilarityHead(32, levels=levels, temperature=SHARP)(moving, fixed), 10)
        errors[levels] = float((field - field.new_tensor(shift)[None, :, None, None, None]).abs().mean())
    assert errors[((4, 2), (1, 2))] < 0.1
    assert errors[((4, 2), (1, 2))] < 0.5 * min(errors[((4, 2),)], errors[((1, 2),)])


def test_sides_that_the_stride_does_not_divide() -> None:
    """A voxel more behind does not move what is in front of it."""
    fixed = blurred(1, 16, 16, 16, 16)
    moving = shifted(fixed, 2, 0, 0)
    head = SimilarityHead(16, levels=((4, 1), (2, 1)), temperature=SHARP)
    assert head(moving[..., :15], fixed[..., :15]).shape == (1, 3, 16, 16, 15)
    assert_is_shift(head(moving[..., :15], fixed[..., :15]), (2, 0, 0), atol=0.5, margin=6)


def test_a_batch_of_two_is_two_batches_of_one() -> None:
    torch.manual_seed(0)
    head = SimilarityHead(4, 4, levels=((2, 1), (1, 1))).double()
    moving, fixed = features(2, 4, 6, 8, 6), features(2, 4, 6, 8, 6, seed=1)
    alone = [head(moving[n : n + 1], fixed[n : n + 1]) for n in range(2)]
    torch.testing.assert_close(head(moving, fixed), torch.cat(alone))


def test_the_embedding_is_learnt_and_can_be_left_out() -> None:
    torch.manual_seed(0)
    moving, fixed = features(1, 4, 4, 4, 4).float(), features(1, 4, 4, 4, 4, seed=1).float()
    head = SimilarityHead(4, 6)
    head(moving, fixed).square().sum().backward()
    assert head.embedding.weight.shape == (6, 4, 1, 1, 1)
    assert head.embedding.weight.grad.abs().max() > 0
    assert not list(SimilarityHead(4).parameters())


def test_a_change_of_brightness_of_all_features_changes_nothing() -> None:
    """The spatial mean of the features is taken off."""
    moving, fixed = features(1, 4, 6, 6, 6), features(1, 4, 6, 6, 6, seed=1)
    head = SimilarityHead(4)
    torch.testing.assert_close(head(moving + 7, 3 * fixed - 2), head(moving, fixed))


def test_in_the_matching_head_and_under_autocast_it_is_float32() -> None:
    torch.manual_seed(0)
    matching = ZMatchingHead(KeypointAffineHead(8, 4), SimilarityHead(4, 4))
    moving, fixed = ((torch.randn(1, 8, 2, 2, 2), torch.randn(1, 4, 8, 8, 8)) for _ in range(2))
    assert matching(moving, fixed)["local_displacement"].shape == (1, 3, 8, 8, 8)
    alone = matching.deformable_head(moving[1], fixed[1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(matching.deformable_head(moving[1], fixed[1]), alone, rtol=0, atol=0)


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="levels must hold"):
        SimilarityHead(4, levels=())
    with pytest.raises(ValueError, match="levels must hold"):
        SimilarityHead(4, levels=((2, 0),))
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        SimilarityHead(4, temperature=0)
    head = SimilarityHead(4)
    with pytest.raises(ValueError, match=r"\(1, 4, 4, 4, 4\) and \(1, 4, 4, 4, 5\)"):
        head(torch.zeros(1, 4, 4, 4, 4), torch.zeros(1, 4, 4, 4, 5))
    with pytest.raises(ValueError, match="three spatial axes"):
        head(torch.zeros(4, 4, 4, 4), torch.zeros(4, 4, 4, 4))
