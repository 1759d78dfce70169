# SPDX-License-Identifier: Apache-2.0
"""The authors' conventions against numbers from their own modules, and against themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from custom.layers import (
    AuthorsConventions,
    authors_affine_matrix,
    authors_affine_warp,
    authors_displacement,
    authors_flow_warp,
    warp,
)


@pytest.fixture
def reference(shared_data) -> dict[str, torch.Tensor]:
    with np.load(shared_data / "reference" / "authors_modules.npz") as arrays:
        names = [name for name in arrays if not name.startswith("unet")]
        return {name: torch.from_numpy(arrays[name]) for name in names}


def make_matrix(seed: int = 0, pairs: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)

    def uniform(size: int, largest: float) -> torch.Tensor:
        return largest * (2 * torch.rand(pairs, size, dtype=torch.float64, generator=generator) - 1)

    return authors_affine_matrix(uniform(3, 0.3), 1 + uniform(3, 0.2), uniform(3, 1.5), uniform(6, 0.15))


def test_matrix(reference):
    # the stored shear is the angle, before the tangent
    matrix = authors_affine_matrix(
        *(reference[n] for n in ("rotation", "scale", "translation")), reference["shear"].tan()
    )
    torch.testing.assert_close(matrix, reference["affine_matrix"], atol=1e-5, rtol=0)


def test_matrix_from_the_numbers_of_the_head():
    generator = torch.Generator().manual_seed(0)
    numbers = {"rotation": 3, "scale": 3, "translation": 3, "shear": 6}
    numbers = {name: 2 * torch.rand(2, size, generator=generator) - 1 for name, size in numbers.items()}
    matrix = AuthorsConventions().matrix(numbers, (12, 16, 20))
    for item in range(2):
        rotation, scale, translation, shear = (numbers[name][item].double().numpy() for name in numbers)
        xy, xz, yx, yz, zx, zy = np.tan(shear * np.pi / 18)
        sheared = np.array([[1, xy, xz], [yx, 1, yz], [zx, zy, 1]])
        rotated = Rotation.from_euler("xyz", rotation * np.pi / 9).as_matrix()
        np.testing.assert_allclose(matrix[item, :, :3], sheared @ np.diag(1 + 0.25 * scale) @ rotated, atol=1e-6)
        np.testing.assert_allclose(matrix[item, :, 3], translation)


def test_affine_warp(reference):
    warped = authors_affine_warp(reference["volume"], reference["affine_matrix"])
    torch.testing.assert_close(warped, reference["affine_warped"], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        AuthorsConventions().warp_affine(reference["volume"], reference["affine_matrix"]), warped, atol=0, rtol=0
    )


def test_flow_warp(reference):
    warped = authors_flow_warp(reference["volume"], reference["displacement"])
    torch.testing.assert_close(warped, reference["flow_warped"], atol=1e-5, rtol=0)


def test_both_warps(reference):
    warped = AuthorsConventions().warp(reference["volume"], reference["affine_matrix"], reference["displacement"])
    torch.testing.assert_close(warped, reference["both_warped"], atol=1e-5, rtol=0)


def test_our_own_warp_is_another(reference):
    # otherwise the switch would be for nothing
    ours = warp(reference["volume"], reference["displacement"])
    assert (ours - reference["flow_warped"]).abs().max() > 0.1


def test_displacement_is_where_the_two_warps_read():
    shape = (12, 16, 20)
    matrix = make_matrix(pairs=2)
    generator = torch.Generator().manual_seed(1)
    # smooth: constant and linear parts, so that the second interpolation adds no error
    local = 2 * torch.rand(2, 3, 1, 1, 1, dtype=torch.float64, generator=generator) + torch.zeros(2, 3, *shape)
    voxel = torch.from_numpy(np.indices(shape)).double()
    local = local + 0.05 * voxel.flip(0)
    ramps = voxel[None].expand(2, 3, *shape)  # channel c holds the voxel's position along axis c
    read = AuthorsConventions().warp(ramps.float(), matrix.float(), local.float())
    displacement = authors_displacement(matrix, local)
    ones = AuthorsConventions().warp(torch.ones(2, 1, *shape), matrix.float(), local.float())
    inside = (ones[:, 0] > 1 - 1e-6).unsqueeze(1).expand(2, 3, *shape)  # neither warp touched the zeros outside
    assert inside.float().mean() > 0.15
    torch.testing.assert_close((voxel + displacement).float()[inside], read[inside], atol=2e-4, rtol=0)


def test_displacement_moves_a_smooth_volume_as_the_two_warps_do():
    shape = (24, 20, 28)
    voxel = np.indices(shape)
    smooth = torch.from_numpy(np.sin(voxel / np.array([5, 6, 7])[:, None, None, None]).sum(0))[None, None].float()
    matrix, local = make_matrix(seed=2).float(), 2 * torch.ones(1, 3, *shape)
    twice = AuthorsConventions().warp(smooth, matrix, local)
    once = warp(smooth, AuthorsConventions().displacement(matrix, local))
    inside = AuthorsConventions().warp(torch.ones_like(smooth), matrix, local) > 1 - 1e-6
    assert inside.float().mean() > 0.15
    torch.testing.assert_close(once[inside], twice[inside], atol=0.05, rtol=0)


def test_the_range_is_clamped_hard():
    far = {name: torch.full((1, size), 9.0) for name, size in (("rotation", 3), ("scale", 3), ("shear", 6))}
    edge = {name: value.clamp(-1, 1) for name, value in far.items()}
    shift = {"translation": torch.tensor([[9.0, -7.0, 5.0]])}  # not limited
    matrix = AuthorsConventions().matrix(far | shift, (8, 8, 8))
    torch.testing.assert_close(matrix, AuthorsConventions().matrix(edge | shift, (8, 8, 8)))
    assert matrix[0, :, 3].tolist() == [9, -7, 5]


def test_gradcheck():
    matrix = make_matrix(pairs=2).requires_grad_()
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(2, 1, 3, 2, 4, dtype=torch.float64, generator=generator).requires_grad_()
    local = torch.rand(2, 3, 3, 2, 4, dtype=torch.float64, generator=generator).requires_grad_()
    assert torch.autograd.gradcheck(authors_affine_warp, (image, matrix))
    assert torch.autograd.gradcheck(authors_flow_warp, (image, local))
    assert torch.autograd.gradcheck(authors_displacement, (matrix, local))


def test_a_batch_is_its_items():
    matrix, local = make_matrix(pairs=2).float(), torch.randn(2, 3, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    image = torch.rand(2, 2, 5, 6, 7, generator=torch.Generator().manual_seed(1))
    items = [slice(0, 1), slice(1, 2)]
    warped = AuthorsConventions().warp(image, matrix, local)
    torch.testing.assert_close(
        warped, torch.cat([AuthorsConventions().warp(image[i], matrix[i], local[i]) for i in items])
    )
    moved = authors_displacement(matrix, local)
    torch.testing.assert_close(moved, torch.cat([authors_displacement(matrix[i], local[i]) for i in items]))
