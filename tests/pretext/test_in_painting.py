# SPDX-License-Identifier: Apache-2.0
"""In-painting: the masked loss by a naive loop, gradient inside the boxes alone, descent, collapse, the overlay."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from restoring import SIDES, RestorationTests

from custom.pretext.restoration import SMALLEST_DAMAGE, InPaintingLoss, masked_mse


class TestInPainting(RestorationTests):
    task, loss = "in_painting", InPaintingLoss

    def target(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        pairs = [(batch[name + "_transformed"], batch[name]) for name in ("moving", "fixed")]
        return torch.cat([clean[(damaged - clean).abs() > SMALLEST_DAMAGE] for damaged, clean in pairs])

    def test_the_loss_is_a_naive_loop(self):
        network, batch = self.make_network(), self.damaged_batch()
        outputs = network(batch)
        squares = []
        for volume in range(4):
            name, pair = ("moving", "fixed")[volume // 2], volume % 2
            for place in np.ndindex(*SIDES):
                clean, damaged = batch[name][pair, 0][place].item(), batch[name + "_transformed"][pair, 0][place].item()
                if abs(damaged - clean) > 1e-4:
                    squares.append((outputs["restored"][volume, 0][place].item() - clean) ** 2)
        assert 0 < len(squares) < 0.5 * outputs["restored"].numel()
        terms = self.loss()(outputs, batch)
        assert set(terms) == {"loss", "restoration"} and terms["restoration"] is terms["loss"]
        assert terms["loss"].item() == pytest.approx(np.mean(squares), rel=1e-5)

    def test_a_hand_worked_case(self):
        restored = torch.tensor([1.0, 2.0, 3.0, 9.0], requires_grad=True)
        mask = torch.tensor([True, False, True, False])
        error = masked_mse(restored, torch.tensor([0.0, 0.0, 1.0, 0.0]), mask)
        error.backward()
        assert error.item() == (1 + 4) / 2
        assert restored.grad.tolist() == [1, 0, 2, 0]  # 2 * difference / voxels of the mask

    def test_without_damage_the_loss_is_zero_and_finite(self):
        network, batch = self.make_network(), self.damaged_batch()
        batch |= {"moving_transformed": batch["moving"], "fixed_transformed": batch["fixed"]}
        loss = self.loss()(network(batch), batch)["loss"]
        loss.backward()
        assert loss.item() == 0
        assert all(not parameter.grad.any() for parameter in network.parameters())

    def test_undamaged_voxels_get_no_gradient(self):
        network, batch = self.make_network(), self.damaged_batch()
        restored = network(batch)["restored"].detach().requires_grad_()
        self.loss()({"restored": restored}, batch)["loss"].backward()
        for place, name in enumerate(("moving", "fixed")):
            same = batch[name] == batch[name + "_transformed"]
            gradient = restored.grad[2 * place : 2 * place + 2]
            assert same.any() and not gradient[same].any() and gradient[~same].any()

    def test_the_overlay_paints_about_a_quarter_of_each_volume_on_its_own(self):
        batch = self.damaged_batch(20, moved=False)
        masks = [(batch[name + "_transformed"] != batch[name]).flatten(1) for name in ("moving", "fixed")]
        for mask in masks:
            share = mask.float().mean(dim=1)
            assert share.min() > 0.1 and 0.15 < share.mean() < 0.25 and share.max() < 0.3
        assert all((moving != fixed).any() for moving, fixed in zip(*masks, strict=True))

    def test_the_mask_follows_the_boxes_through_the_spatial_transform(self):
        still, moved = self.damaged_batch(4, moved=False), self.damaged_batch(4)
        warp = self.overlay().get_parsed_content("train#spatial_transform")
        for name in ("moving", "fixed"):
            painted = (still[name + "_transformed"] != still[name]).float()
            follower = warp({**still, name: painted, name + "_transformed": painted})[name]
            mask = (moved[name + "_transformed"] - moved[name]).abs() > SMALLEST_DAMAGE
            assert not mask[follower == 0].any()  # exactly equal wherever no painted voxel was mixed in
            assert mask[follower > 0.9].float().mean() > 0.99
