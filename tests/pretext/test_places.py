# SPDX-License-Identifier: Apache-2.0
"""Random places: reproducible, inside, uniform; samples at places."""

from __future__ import annotations

import torch

from custom.layers import warp
from custom.pretext.places import at_places, draw_places

CPU = torch.device("cpu")


def test_places_depend_on_the_seed_alone():
    together = draw_places([3, 4], (5, 6, 7), 10, CPU)
    assert torch.equal(together, torch.cat([draw_places([seed], (5, 6, 7), 10, CPU) for seed in (3, 4)]))
    assert not torch.equal(together[0], together[1])


def test_places_are_voxels_and_all_voxels_are_drawn():
    places = draw_places([0], (2, 3, 4), 2000, CPU)
    assert places.dtype == torch.float32 and torch.equal(places, places.round())
    voxels, counts = places[0].T.unique(dim=0, return_counts=True)
    assert len(voxels) == 24 and voxels.amax(0).tolist() == [1, 2, 3] and voxels.amin() == 0
    assert counts.min() > 50  # 83 are expected


def test_samples_at_voxels_are_the_voxels():
    volume = torch.randn(2, 3, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    places = draw_places([0, 1], (5, 6, 7), 20, CPU)
    for n in range(2):
        x, y, z = places[n].long()
        torch.testing.assert_close(at_places(volume, places)[n], volume[n, :, x, y, z])


def test_samples_between_voxels_are_those_of_the_warp():
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(1, 2, 4, 4, 4, generator=generator)
    displacement = torch.rand(1, 3, 4, 4, 4, generator=generator) * 3 - 1
    voxels = torch.stack(torch.meshgrid(*[torch.arange(4.0)] * 3, indexing="ij"))[None]
    found = at_places(volume, (voxels + displacement).flatten(2))
    torch.testing.assert_close(found, warp(volume, displacement).flatten(2))
