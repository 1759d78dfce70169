# SPDX-License-Identifier: Apache-2.0
"""The Z-matching head: which stage sees what, ablations, batches, precision."""

from __future__ import annotations

import pytest
import torch

from custom.layers import (
    AuthorsConventions,
    PhysicalConventions,
    affine_to_displacement,
    authors_displacement,
    fuse,
    fuse_equation_12,
    warp,
)
from custom.networks import AffineHead, DeformableHead, KeypointAffineHead, ZMatchingHead

SPACING = (1.0, 1.5, 0.8)
SPATIAL = (8, 12, 16)
PHYSICAL, EQUATION_12 = PhysicalConventions(SPACING), PhysicalConventions(SPACING, "equation_12")


def make(affine: bool = True, deformable: bool = True, large: float = 1000.0, conventions=PHYSICAL) -> ZMatchingHead:
    """Heads whose last layers are `large` times their start, so that maps are far from the identity."""
    torch.manual_seed(0)
    heads = (AffineHead(16, 16) if affine else None, DeformableHead(8, 8) if deformable else None)
    matching = ZMatchingHead(*heads, conventions)
    with torch.no_grad():
        for name, parameter in matching.named_parameters():
            if "conv_group" not in name:
                parameter *= large
    return matching


def features(pairs: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Bottleneck and local features of one side of the pairs."""
    generator = torch.Generator().manual_seed(seed)
    bottleneck = torch.randn(pairs, 16, *(side // 4 for side in SPATIAL), generator=generator)
    return bottleneck, torch.randn(pairs, 8, *SPATIAL, generator=generator)


class Recorder(torch.nn.Module):
    """A deformable head that keeps what it sees."""

    def forward(self, moving: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        self.moving, self.fixed = moving, fixed
        return moving.new_zeros(len(moving), 3, *moving.shape[2:])


def test_outputs():
    match = make()(features(), features(seed=1))
    shapes = {name: tuple(value.shape) for name, value in match.items()}
    field = (2, 3, *SPATIAL)
    assert shapes == {"affine_matrix": (2, 3, 4), "local_displacement": field, "displacement": field}
    assert match["displacement"].abs().max() > 0.5


@pytest.mark.parametrize(("conventions", "expected"), [(PHYSICAL, fuse), (EQUATION_12, fuse_equation_12)])
def test_displacement_is_the_fusion_and_the_warp_samples_once(conventions, expected):
    matching = make(conventions=conventions)
    match = matching(features(), features(seed=1))
    fused = expected(match["affine_matrix"], match["local_displacement"], SPACING)
    assert torch.equal(match["displacement"], fused)
    image = torch.rand(2, 1, *SPATIAL, generator=torch.Generator().manual_seed(0))
    assert torch.equal(matching.warp(image, match), warp(image, fused))
    alone = affine_to_displacement(match["affine_matrix"], SPATIAL, SPACING)
    assert torch.equal(matching.warp_affine(image, match), warp(image, alone))


def test_the_deformable_head_sees_the_aligned_moving_features():
    matching = make()
    matching.deformable_head = recorder = Recorder()
    moving, fixed = features(), features(seed=1)
    match = matching(moving, fixed)
    aligned = warp(moving[1], affine_to_displacement(match["affine_matrix"], SPATIAL, SPACING))
    assert torch.equal(recorder.moving, aligned) and torch.equal(recorder.fixed, fixed[1])
    assert not torch.allclose(aligned, moving[1], atol=0.1)


def test_the_affine_head_sees_the_bottlenecks():
    matching = make(deformable=False)
    moving, fixed = features(), features(seed=1)
    expected = matching.conventions.matrix(matching.affine_head(moving[0], fixed[0]), SPATIAL)
    assert torch.equal(matching(moving, fixed)["affine_matrix"], expected)


def test_keypoints_give_the_matrix_itself_and_only_in_millimetres():
    head = KeypointAffineHead(16, 4, SPACING)
    matching = ZMatchingHead(head, None, PHYSICAL)
    moving, fixed = features(), features(seed=1)
    match = matching(moving, fixed)
    assert torch.equal(match["affine_matrix"], head(moving[0], fixed[0]))
    assert torch.equal(match["displacement"], affine_to_displacement(match["affine_matrix"], SPATIAL, SPACING))
    with pytest.raises(ValueError, match="needs PhysicalConventions, got AuthorsConventions"):
        ZMatchingHead(head, None, AuthorsConventions())


def test_without_the_affine_head():
    matching = make(affine=False)
    moving, fixed = features(), features(seed=1)
    match = matching(moving, fixed)
    assert torch.equal(match["affine_matrix"], torch.eye(3, 4).expand(2, 3, 4))
    assert torch.equal(match["local_displacement"], matching.deformable_head(moving[1], fixed[1]))
    torch.testing.assert_close(match["displacement"], match["local_displacement"])


def test_without_the_deformable_head():
    match = make(deformable=False)(features(), features(seed=1))
    assert not match["local_displacement"].any()
    assert torch.equal(match["displacement"], affine_to_displacement(match["affine_matrix"], SPATIAL, SPACING))


def test_without_both_heads_nothing_moves():
    matching = make(affine=False, deformable=False)
    match = matching(features(), features(seed=1))
    image = torch.rand(2, 1, *SPATIAL)
    assert not match["displacement"].any()
    assert torch.equal(matching.warp(image, match), warp(image, torch.zeros(2, 3, *SPATIAL)))


@pytest.mark.parametrize("conventions", [PHYSICAL, EQUATION_12, AuthorsConventions()])
def test_a_batch_is_its_items(conventions):
    matching, moving, fixed = make(conventions=conventions), features(), features(seed=1)
    image = torch.rand(2, 1, *SPATIAL, generator=torch.Generator().manual_seed(2))
    whole = matching(moving, fixed)
    whole["warped"] = matching.warp(image, whole)
    for i in (slice(0, 1), slice(1, 2)):
        single = matching(tuple(f[i] for f in moving), tuple(f[i] for f in fixed))
        single["warped"] = matching.warp(image[i], single)
        for name, value in single.items():
            torch.testing.assert_close(whole[name][i], value, atol=1e-4, rtol=1e-4)


def test_the_authors_conventions():
    matching = make(conventions=AuthorsConventions())
    match = matching(features(), features(seed=1))
    expected = authors_displacement(match["affine_matrix"], match["local_displacement"])
    assert torch.equal(match["displacement"], expected)
    # zero numbers are not the identity there
    still = make(affine=False, deformable=False, conventions=AuthorsConventions())(features(), features(seed=1))
    assert still["displacement"].abs().max() > 0.4


@pytest.mark.parametrize("conventions", [PHYSICAL, AuthorsConventions()])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_geometry_stays_in_float32_under_autocast(conventions, dtype):
    matching, moving, fixed = make(conventions=conventions), features(), features(seed=1)
    image = torch.rand(2, 1, *SPATIAL)
    with torch.autocast("cpu", dtype=dtype):
        match = matching(tuple(f.to(dtype) for f in moving), tuple(f.to(dtype) for f in fixed))
        warped, affine_warped = matching.warp(image, match), matching.warp_affine(image, match)
    assert affine_warped.dtype == torch.float32
    assert torch.equal(affine_warped, matching.conventions.warp_affine(image, match["affine_matrix"]))
    assert all(value.dtype == torch.float32 for value in match.values()) and warped.dtype == torch.float32
    # and not only by name: the field is exactly that of the matrix and the local part
    expected = matching.conventions.displacement(match["affine_matrix"], match["local_displacement"])
    assert torch.equal(match["displacement"], expected)
    assert torch.equal(warped, matching.conventions.warp(image, match["affine_matrix"], match["local_displacement"]))


def test_the_default_is_physical_with_a_spacing_of_1_mm():
    conventions = ZMatchingHead(None, None).conventions
    assert isinstance(conventions, PhysicalConventions) and conventions.spacing == (1.0, 1.0, 1.0)


def test_other_conventions_are_named():
    with pytest.raises(TypeError, match="PhysicalConventions or AuthorsConventions, got 'authors'"):
        ZMatchingHead(None, None, conventions="authors")
