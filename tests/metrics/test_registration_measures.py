# SPDX-License-Identifier: Apache-2.0
"""Registration measures: the identity, a known shift stage by stage, Dice by hand."""

from __future__ import annotations

import pytest
import torch

from custom.layers import affine_to_displacement, fuse
from custom.losses import local_ncc_loss
from custom.metrics import RegistrationMeasures, one_hot_dice
from custom.networks import ZMatchingHead

SPATIAL = (16, 16, 16)


def make_match(shift: float = 0.0, local: float = 0.0, pairs: int = 1) -> dict[str, torch.Tensor]:
    """An affine stage that shifts by `shift` voxels along axis 0 and a local one by `local` more."""
    matrix = torch.eye(3, 4).repeat(pairs, 1, 1)
    matrix[:, 0, 3] = shift
    displacement = torch.zeros(pairs, 3, *SPATIAL)
    displacement[:, 0] = local
    return {"affine_matrix": matrix, "local_displacement": displacement, "displacement": fuse(matrix, displacement)}


@pytest.fixture
def volume(blobs, voxel_grid):
    """Function of a shift along axis 0: image and label map with the values 1 and 205, (1, 1, *SPATIAL)."""

    def make(shift: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        grid = voxel_grid(*SPATIAL)
        grid[..., 0] += shift
        image = torch.from_numpy(blobs(grid, radius=4)).float()[None, None]
        inside = torch.from_numpy((grid**2).sum(-1) < 25)[None, None]
        upper = torch.from_numpy(grid[..., 1] > 0)[None, None]
        return image, torch.where(inside, torch.where(upper, 205, 1), 0).float()

    return make


@pytest.fixture
def measures() -> RegistrationMeasures:
    return RegistrationMeasures(ZMatchingHead(None, None), (1, 205))


def test_the_identity(volume, measures):
    image, label = volume()
    batch = {"moving": image, "fixed": image, "moving_label": label, "fixed_label": label}
    measured = measures(make_match(), batch)
    assert set(measured) == {"folded_share"} | {
        f"{name}_{stage}" for name in ("registration", "dice") for stage in ("before", "affine", "after")
    }
    for name, value in measured.items():
        assert value.shape == (1,)
        assert value.item() == pytest.approx(1 if name.startswith("dice") else 0, abs=1e-6), name


def test_each_stage_of_a_planted_shift_gains(volume, measures):
    (image, label), (fixed, fixed_label) = volume(), volume(3)  # fixed(p) = moving(p + 3)
    batch = {"moving": image, "fixed": fixed, "moving_label": label, "fixed_label": fixed_label}
    measured = {name: value.item() for name, value in measures(make_match(2, 1), batch).items()}
    assert measured["dice_before"] < measured["dice_affine"] < measured["dice_after"] == 1
    assert measured["registration_before"] > measured["registration_affine"] > measured["registration_after"]
    assert measured["registration_after"] < 0.01 and measured["folded_share"] == 0  # three planes come from outside
    assert measured["registration_before"] == pytest.approx(local_ncc_loss(image, fixed).item())
    only_affine = {name: value.item() for name, value in measures(make_match(3, 0), batch).items()}
    assert only_affine["dice_affine"] == only_affine["dice_after"] == 1


def test_folding_is_that_of_the_fused_field(volume, measures):
    image, _ = volume()
    mirror = torch.eye(3, 4)[None].clone()
    mirror[0, 0, 0] = -1
    match = make_match() | {"affine_matrix": mirror, "displacement": affine_to_displacement(mirror, SPATIAL)}
    assert measures(match, {"moving": image, "fixed": image})["folded_share"].item() == 1


def test_each_pair_has_its_own_values(volume, measures):
    (image, label), (other, other_label) = volume(), volume(3)
    batch = {
        "moving": torch.cat((image, image)),
        "fixed": torch.cat((image, other)),
        "moving_label": torch.cat((label, label)),
        "fixed_label": torch.cat((label, other_label)),
    }
    both = measures(make_match(pairs=2), batch)
    for index in (0, 1):
        single = measures(make_match(), {name: value[index : index + 1] for name, value in batch.items()})
        for name, value in single.items():
            torch.testing.assert_close(both[name][index : index + 1], value)
    assert both["dice_before"][0] == 1 > both["dice_before"][1]


def test_dice_needs_labels_and_their_values(volume):
    image, label = volume()
    batch = {"moving": image, "fixed": image, "moving_label": label, "fixed_label": label}
    assert not any("dice" in name for name in RegistrationMeasures(ZMatchingHead(None, None))(make_match(), batch))
    del batch["moving_label"]
    assert not any(
        "dice" in name for name in RegistrationMeasures(ZMatchingHead(None, None), (1,))(make_match(), batch)
    )


def test_window_and_clamp_reach_the_loss(volume):
    (image, _), (fixed, _) = volume(), volume(1)
    measured = RegistrationMeasures(ZMatchingHead(None, None), (), 5, 0.01)(
        make_match(), {"moving": image, "fixed": fixed}
    )
    assert measured["registration_before"].item() == pytest.approx(local_ncc_loss(image, fixed, 5, 0.01).item())


def test_dice_by_hand():
    moved, fixed = torch.zeros(2, 2, 4, 1, 1), torch.zeros(2, 2, 4, 1, 1)
    moved[0, 0, :2], fixed[0, 0, 1:3] = 1, 1  # 2 * 1 / (2 + 2) = 0.5
    moved[0, 1, 3], fixed[0, 1, 3] = 0.5, 1  # half an occupancy belongs: 1
    moved[1, 0, :] = 0.49  # below one half, and the fixed map has none of it: left out
    moved[1, 1, 0], fixed[1, 1, 1:] = 1, 1  # no overlap: 0
    assert one_hot_dice(moved, fixed).tolist() == [0.75, 0]
    assert one_hot_dice(moved, torch.zeros_like(fixed)).isnan().all()
