# SPDX-License-Identifier: Apache-2.0
"""Refinement of an affine map: a known one is recovered, and a better start is kept."""

import pytest
import torch
from scipy.ndimage import gaussian_filter

from custom.layers import AuthorsConventions, PhysicalConventions
from custom.losses import LocalNCCLoss
from custom.networks import SimilarityHead, ZMatchingHead
from custom.registration import RefineDisplacement, refine_affine, refine_displacement
from custom.registration.affine_refinement import means_of_blocks

SIZE, SPACING = (40, 36, 44), (2.0, 3.0, 2.5)
CONVENTIONS = PhysicalConventions(SPACING)
KNOWN = torch.tensor([[[1.05, 0.08, 0.0, 6.0], [-0.08, 0.95, 0.05, -5.0], [0.0, -0.05, 1.0, 4.0]]])  # millimetres
IDENTITY = torch.eye(3, 4)[None]


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Blobs of about 20 mm in [0, 1], and the same under KNOWN."""
    noise = torch.randn(1, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    smooth = torch.from_numpy(gaussian_filter(noise.numpy(), (0, 0, 5, 4, 4)))
    moving = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return moving, CONVENTIONS.warp_affine(moving, KNOWN)


def error(matrix: torch.Tensor) -> float:
    """Mean distance to KNOWN over the inner half of the volume, millimetres."""
    zero = torch.zeros(1, 3, *SIZE)
    difference = (CONVENTIONS.displacement(map_, zero) for map_ in (matrix, KNOWN))
    first, second = difference
    distance = ((first - second) * torch.tensor(SPACING).reshape(3, 1, 1, 1)).norm(dim=1)
    return float(distance[:, 10:-10, 9:-9, 11:-11].mean())


def test_a_known_map_is_recovered(pair):
    found = refine_affine(*pair, IDENTITY, SPACING, steps=60)
    assert error(IDENTITY) > 8 and error(found) < 0.5
    assert not found.requires_grad and found.dtype == torch.float32


def test_it_computes_under_no_grad_as_without(pair):
    expected = refine_affine(*pair, IDENTITY, SPACING, steps=3)
    with torch.no_grad():
        assert torch.equal(refine_affine(*pair, IDENTITY, SPACING, steps=3), expected)


def test_a_start_that_every_step_makes_worse_is_kept(pair):
    assert torch.equal(refine_affine(*pair, KNOWN, SPACING, steps=1, learning_rate=40.0), KNOWN)
    assert torch.equal(refine_affine(*pair, IDENTITY, SPACING, steps=0), IDENTITY)


def test_steps_of_the_affine_map_that_would_do_nothing_are_refused():
    head = ZMatchingHead(None, SimilarityHead(2, levels=[[2, 2]]), CONVENTIONS)
    with pytest.raises(ValueError, match=r"\(refine_affine\) is 40 and steps \(refine\) 0, expected steps too"):
        RefineDisplacement(steps=0, matching_head=head, affine_steps=40)
    authors = ZMatchingHead(None, SimilarityHead(2, levels=[[2, 2]]), AuthorsConventions())
    with pytest.raises(ValueError, match=r"\(refine_affine\) is 40, expected 0 with AuthorsConventions"):
        RefineDisplacement(steps=1, matching_head=authors, affine_steps=40)


def test_blocks_keep_extent_and_centre():
    """The mean over all blocks of a ramp is that of the ramp, also for sides that are no multiples."""
    ramp = torch.arange(10.0).reshape(1, 1, 10, 1, 1).expand(1, 1, 10, 7, 3)
    coarse = means_of_blocks(ramp, 4)
    assert coarse.shape == (1, 1, 2, 2, 1)
    assert coarse[0, 0, :, 0, 0].tolist() == [2.0, 7.0]


def test_the_local_displacement_is_read_off_the_features_again(pair):
    """The features are the intensities: after the right affine map there is nothing left to displace."""
    moving, fixed = pair
    head = ZMatchingHead(None, SimilarityHead(2, levels=[[2, 2]]), CONVENTIONS)
    local = torch.cat([torch.cat((volume, 1 - volume), 1) for volume in (moving, fixed)])
    with torch.no_grad():
        outputs = head.match(IDENTITY, *local.chunk(2)) | {"local": local}
    refined = RefineDisplacement(steps=1, matching_head=head, affine_steps=60).refined(moving, fixed, outputs)
    matrix = refine_affine(moving, fixed, IDENTITY, SPACING, steps=60)
    assert torch.equal(refined["affine_matrix"], matrix)
    with torch.no_grad():
        start = head.match(matrix, *local.chunk(2))["local_displacement"]
    expected = refine_displacement(moving, fixed, start, matrix, CONVENTIONS, steps=1)
    assert torch.equal(refined["local_displacement"], expected)
    assert torch.equal(refined["displacement"], CONVENTIONS.displacement(matrix, expected))
    loss = LocalNCCLoss()
    assert loss(head.warp(moving, refined), fixed) < loss(head.warp(moving, outputs), fixed)
