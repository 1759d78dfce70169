# SPDX-License-Identifier: Apache-2.0
"""Denoising: the loss by a naive loop, who sees what, gradient, descent, collapse, the overlay's noise."""

from __future__ import annotations

import numpy as np
import torch
from restoring import RestorationTests

from custom.pretext.restoration import RestorationLoss


class TestDenoising(RestorationTests):
    task, loss = "denoising", RestorationLoss

    def test_the_overlay_adds_independent_gaussian_noise_of_one_sigma(self):
        batch = self.damaged_batch(20, moved=False)
        noise = [batch[name + "_transformed"] - batch[name] for name in ("moving", "fixed")]
        for volumes in noise:
            deviations = volumes.flatten(1).std(dim=1)
            assert deviations.min() > 0.19 and deviations.max() < 0.21
            assert volumes.mean().abs() < 0.005
        correlation = np.corrcoef(noise[0].flatten(), noise[1].flatten())[0, 1]
        assert abs(correlation) < 0.02

    def test_the_spatial_transform_halves_the_noise(self):
        batch = self.damaged_batch(20)
        noise = torch.cat([batch[name + "_transformed"] - batch[name] for name in ("moving", "fixed")])
        assert 0.08 < noise.std() < 0.12
