# SPDX-License-Identifier: Apache-2.0
"""Models Genesis: the loss by a naive loop, gradient, descent, collapse, and the rates of its three damages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import OneOf
from restoring import SIDES, RestorationTests, smooth

from custom.pretext.restoration import RestorationLoss

NAMES = ("moving", "fixed")


def painted_share(volume: torch.Tensor) -> float:
    """Share of the voxels of a damaged constant volume that do not have the value of most of them."""
    values, counts = volume.unique(return_counts=True)
    return 1 - counts.max().item() / volume.numel() if counts.max() > 1 else 1.0


class TestModelsGenesis(RestorationTests):
    task, loss = "models_genesis", RestorationLoss

    def test_the_overlay_has_the_rates_of_the_paper(self):
        damage = self.overlay().get_parsed_content("train#pair_transform").set_random_state(seed=0)
        constant = torch.full((1, *SIDES), 0.5)
        draws = 600
        damaged = [damage({"moving": constant, "fixed": constant}) for _ in range(draws)]
        shares = {name: np.array([painted_share(item[name + "_transformed"]) for item in damaged]) for name in NAMES}
        for share in shares.values():
            # five boxes of a third of each side are 19 % of the voxels; five of four sevenths leave 7 % outside or more
            in_painted, out_painted = (share > 0) & (share < 0.2), share > 0.2
            # 0.9 of 0.2 and of 0.8; four standard deviations of 600 draws are 0.06
            assert in_painted.mean() == pytest.approx(0.18, abs=0.06)
            assert out_painted.mean() == pytest.approx(0.72, abs=0.07)
        # each volume has a draw of its own
        assert abs(np.corrcoef(shares["moving"], shares["fixed"])[0, 1]) < 0.2

    def test_shuffling_and_curve_have_the_rates_of_the_paper(self):
        damage = self.overlay().get_parsed_content("train#pair_transform").set_random_state(seed=0)
        steps = [step for step in damage.transforms if not isinstance(step, OneOf)][2:]
        volume, draws = smooth(0), 400
        shuffled, curved, falling = [], [], []
        for _ in range(draws):
            results = [step({name + "_transformed": volume for name in NAMES}) for step in steps]
            for place, name in ((0, "moving"), (2, "fixed")):
                key = name + "_transformed"
                shuffled.append(not torch.equal(results[place][key], volume))
                assert torch.isin(results[place][key], volume).all()
                curved.append(not torch.equal(results[place + 1][key], volume))
                falling.append((results[place + 1][key][volume == 1] == 0).all().item())
        # 800 draws: four standard deviations are 0.07
        assert np.mean(shuffled) == pytest.approx(0.5, abs=0.07)
        assert np.mean(curved) == pytest.approx(0.9, abs=0.05)
        assert np.mean(falling) == pytest.approx(0.45, abs=0.07)

    def test_undamaged_voxels_count_too(self):
        batch = self.damaged_batch()
        restored = torch.cat((batch["moving"], batch["fixed"])) + 0.1
        assert self.loss()({"restored": restored}, batch)["loss"].item() == pytest.approx(0.01, rel=1e-4)
