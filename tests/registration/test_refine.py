# SPDX-License-Identifier: Apache-2.0
"""Refinement of a displacement: identity at zero steps, recovery of a known map, loss and folds of the result."""

import pytest
import torch
from torch.nn import functional as F

from custom.layers import PhysicalConventions, folded_share, fuse, warp
from custom.losses import local_ncc_loss, smoothness_loss
from custom.registration import RefineDisplacement, refine_displacement

SIZE = (24, 20, 22)


def textured(seed=0):
    """Noise, smoothed to blobs of a few voxels, in [0, 1]."""
    noise = torch.rand(1, 1, *SIZE, generator=torch.Generator().manual_seed(seed))
    smooth = F.avg_pool3d(F.pad(F.avg_pool3d(noise, 3, 1), [2] * 6, mode="replicate"), 3, 1)
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


def known_displacement(size=1.5):
    """One period of a sine along another axis for each channel; at most `size` voxels."""
    position = torch.meshgrid(*(torch.arange(side) / side for side in SIZE), indexing="ij")
    return size * torch.stack([(2 * torch.pi * position[(axis + 1) % 3]).sin() for axis in range(3)])[None]


def total_loss(moving, fixed, displacement, weight):
    return float(local_ncc_loss(warp(moving, displacement), fixed) + weight * smoothness_loss(displacement))


@pytest.fixture
def pair():
    moving = textured()
    return moving, warp(moving, known_displacement(), padding_mode="border")


def zero():
    return torch.zeros(1, 3, *SIZE)


def test_zero_steps_change_nothing(pair):
    start = known_displacement(0.7)
    assert torch.equal(refine_displacement(*pair, start, steps=0), start)


def test_a_known_displacement_is_recovered(pair):
    found = refine_displacement(*pair, zero(), steps=100, smoothness_weight=0.1)
    inner = (..., *(slice(4, -4),) * 3)
    error = (found - known_displacement())[inner].norm(dim=1)
    assert known_displacement()[inner].norm(dim=1).mean() > 1.2
    assert error.mean() < 0.2 and error.quantile(0.95) < 0.4  # voxels
    assert folded_share(found) < 0.01 and found.dtype == torch.float32 and not found.requires_grad


def test_more_steps_never_give_a_larger_loss(pair):
    losses = []
    for steps in (0, 1, 3, 10, 20, 40):
        losses.append(total_loss(*pair, refine_displacement(*pair, zero(), steps=steps), 3.0))
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.5 * losses[0]


def test_the_start_is_returned_where_every_step_is_worse(pair):
    start = known_displacement()
    assert torch.equal(refine_displacement(*pair, start, steps=9, learning_rate=50.0), start)


def test_folds_stay_below_the_limit_where_the_loss_would_fold():
    moving, fixed = textured(1), textured(2)  # nothing in common: the lowest loss is at a folded map
    free = refine_displacement(moving, fixed, zero(), steps=60, smoothness_weight=0.0, max_folded_share=1.0)
    limited = refine_displacement(moving, fixed, zero(), steps=60, smoothness_weight=0.0)
    assert folded_share(free) > 0.02 and folded_share(limited) <= 0.01
    assert total_loss(moving, fixed, limited, 0.0) < 0.9 * total_loss(moving, fixed, zero(), 0.0)


def test_a_folded_start_is_unfolded(pair):
    start = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(3))
    found = refine_displacement(*pair, start, steps=40, control_spacing=1, smoothness_weight=10.0)
    assert folded_share(start) > 0.1 and folded_share(found) <= 0.01


def test_the_first_step_is_that_of_adam_on_the_gradient(pair):
    start = known_displacement(0.3).requires_grad_()
    loss = local_ncc_loss(warp(pair[0], start), pair[1]).mean() + 3.0 * smoothness_loss(start).mean()
    (gradient,) = torch.autograd.grad(loss, start)
    expected = start - 0.01 * gradient.sign()  # the first step of Adam has the size of the learning rate
    found = refine_displacement(*pair, start, steps=1, control_spacing=1, learning_rate=0.01)
    large = gradient.abs() > 1e-6  # Adam adds 1e-8 to the size of the gradient
    assert (found - expected)[large].abs().max() < 2e-4


def test_the_affine_map_stays_and_the_rest_is_local(pair):
    moving, _ = pair
    matrix = torch.eye(3, 4)[None].clone()
    matrix[0, :, 3] = torch.tensor([4.0, -2.0, 2.0])  # millimetres, at 2 mm per voxel
    conventions = PhysicalConventions((2.0, 2.0, 2.0))
    fixed = warp(moving, fuse(matrix, known_displacement(0.8), (2.0, 2.0, 2.0)), padding_mode="border")
    found = refine_displacement(moving, fixed, zero(), matrix, conventions, steps=60, smoothness_weight=0.1)
    inner = (..., *(slice(5, -5),) * 3)
    assert (found - known_displacement(0.8))[inner].norm(dim=1).mean() < 0.2


def test_it_computes_under_no_grad_and_autocast_as_without(pair):
    expected = refine_displacement(*pair, zero(), steps=3)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(refine_displacement(*pair, zero(), steps=3), expected)


@pytest.mark.gpu
def test_it_computes_the_same_on_a_gpu(pair):
    expected = refine_displacement(*pair, zero(), steps=20)
    found = refine_displacement(*(volume.cuda() for volume in pair), zero().cuda(), steps=20)
    assert found.is_cuda and (found.cpu() - expected).abs().mean() < 0.02


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", -1),
        ("steps", 2.5),
        ("steps", True),
        ("control_spacing", 0),
        ("learning_rate", 0.0),
        ("smoothness_weight", -1.0),
        ("max_folded_share", 1.5),
    ],
)
def test_arguments_out_of_range_are_refused(pair, name, value):
    arguments = {"steps": 5, name: value}
    with pytest.raises(ValueError, match=f"{name} must .*got {value}"):
        refine_displacement(*pair, zero(), **arguments)
    with pytest.raises(ValueError, match=f"{name} must .*got {value}"):
        RefineDisplacement(matching_head=None, **arguments)


def test_affine_steps_are_a_number():
    with pytest.raises(ValueError, match="affine_steps must .*got 1.5"):
        RefineDisplacement(5, None, affine_steps=1.5)


def test_shapes_that_do_not_fit_are_refused(pair):
    moving, fixed = pair
    with pytest.raises(ValueError, match="moving and fixed must have one shape"):
        refine_displacement(moving, fixed[..., :-1], zero(), steps=1)
    with pytest.raises(ValueError, match="moving and fixed must have one shape"):
        refine_displacement(moving.repeat(2, 1, 1, 1, 1), fixed.repeat(2, 1, 1, 1, 1), zero(), steps=1)
    with pytest.raises(ValueError, match="displacement must have shape"):
        refine_displacement(moving, fixed, zero()[..., :-1], steps=1)
