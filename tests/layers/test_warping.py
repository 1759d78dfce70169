# SPDX-License-Identifier: Apache-2.0
"""The warping layer: identity, slicing, scipy as the judge, borders, errors, precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from custom.layers import warp


def noise(*shape: int, dtype=torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("padding_mode", ["zeros", "border"])
@pytest.mark.parametrize("shape", [(1, 2, 3), (5, 7, 9), (12, 20, 33), (24, 25, 26)])
def test_zero_displacement_is_the_identity_in_float64(shape, padding_mode):
    image = noise(2, 2, *shape, dtype=torch.float64)
    warped = warp(image, image.new_zeros(2, 3, *shape), padding_mode=padding_mode)
    torch.testing.assert_close(warped, image, atol=1e-12, rtol=0)


@pytest.mark.parametrize("shape", [(1, 2, 4), (8, 16, 32), (64, 32, 16), (4, 8, 128), (2, 256, 8)])
def test_zero_displacement_is_exact_for_powers_of_two(shape):
    image = noise(1, 1, *shape)
    assert torch.equal(warp(image, torch.zeros(1, 3, *shape)), image)


# grid_sample rounds positions to about side * 2^-24 voxel in float32. Measured on noise in [0, 1], the worst image:
# 0.5e-6 at (48, 8, 8) and multiples of 16 like it, 1.3e-6 at 48^3, 2.4e-6 at 96^3, 8.3e-6 at 100^3, 5.1e-6 at 160^3.
@pytest.mark.parametrize(
    ("shape", "largest"),
    [
        ((48, 8, 8), 1e-6),
        ((8, 24, 8), 1e-6),
        ((8, 8, 33), 1e-6),
        ((20, 24, 28), 1.5e-6),
        ((48, 48, 48), 2e-6),
        ((96, 12, 96), 3e-6),
        ((100, 100, 10), 9e-6),
        ((160, 16, 160), 6e-6),
    ],
)
def test_zero_displacement_in_float32_is_the_identity_as_far_as_measured(shape, largest):
    image = noise(1, 1, *shape)
    assert (warp(image, torch.zeros(1, 3, *shape)) - image).abs().max() <= largest


@pytest.mark.parametrize("shape", [(37, 41, 6), (96, 96, 8), (100, 10, 10)])
def test_zero_displacement_keeps_smooth_images_to_1e_6(shape):
    axes = [torch.linspace(0, 3, side) for side in shape]
    image = torch.stack([axis.sin() for axis in torch.meshgrid(*axes, indexing="ij")]).mean(0)[None, None]
    torch.testing.assert_close(warp(image, torch.zeros(1, 3, *shape)), image, atol=1e-6, rtol=0)


def test_the_identity_holds_for_labels():
    label = torch.randint(0, 850, (1, 1, 19, 48, 45), generator=torch.Generator().manual_seed(0), dtype=torch.int16)
    warped = warp(label, torch.zeros(1, 3, 19, 48, 45), mode="nearest")
    assert warped.dtype == torch.float32 and torch.equal(warped, label.float())


@pytest.mark.parametrize("shift", [(1, 0, 0), (0, 2, 0), (0, 0, 3), (2, 1, 4), (-1, 0, 0), (-2, 3, -4)])
def test_integer_shifts_are_slicing(shift):
    image = noise(1, 2, 8, 10, 13, dtype=torch.float64)
    displacement = torch.tensor(shift, dtype=torch.float64).view(1, 3, 1, 1, 1).expand(1, 3, 8, 10, 13)
    expected = torch.zeros_like(image)  # expected[p] = image[p + shift], zero where p + shift is outside
    target = [slice(max(-s, 0), side - max(s, 0)) for s, side in zip(shift, (8, 10, 13), strict=True)]
    source = [slice(max(s, 0), side - max(-s, 0)) for s, side in zip(shift, (8, 10, 13), strict=True)]
    expected[(..., *target)] = image[(..., *source)]
    torch.testing.assert_close(warp(image, displacement), expected, atol=1e-12, rtol=0)


def test_half_a_voxel_is_the_mean_of_two():
    image = torch.tensor([1.0, 3.0, 7.0, 0.0]).view(1, 1, 4, 1, 1)
    displacement = torch.zeros(1, 3, 4, 1, 1)
    displacement[:, 0] = 0.5
    # (1+3)/2, (3+7)/2, (7+0)/2, and the last one half outside: (0 + 0)/2
    torch.testing.assert_close(warp(image, displacement).flatten(), torch.tensor([2.0, 5.0, 3.5, 0.0]))


@pytest.mark.parametrize(("padding_mode", "scipy_mode"), [("zeros", "grid-constant"), ("border", "nearest")])
def test_scipy_agrees_on_random_displacements(padding_mode, scipy_mode):
    image = noise(2, 2, 9, 11, 14, dtype=torch.float64)
    displacement = 12 * (noise(2, 3, 9, 11, 14, dtype=torch.float64, seed=1) - 0.5)
    warped = warp(image, displacement, padding_mode=padding_mode)
    positions = np.indices((9, 11, 14)) + displacement.numpy()
    for pair, channel in np.ndindex(2, 2):
        expected = map_coordinates(image[pair, channel].numpy(), positions[pair], order=1, mode=scipy_mode, cval=0)
        np.testing.assert_allclose(warped[pair, channel], expected, atol=1e-10)


def test_an_output_grid_of_another_size_counts_voxels_of_the_image():
    image = noise(1, 1, 10, 11, 12, dtype=torch.float64)
    larger = warp(image, image.new_zeros(1, 3, 12, 5, 12))
    torch.testing.assert_close(larger[:, :, :10], image[:, :, :, :5], atol=1e-12, rtol=0)
    assert not larger[:, :, 10:].any()


def test_a_batch_is_its_items():
    image, displacement = noise(3, 2, 7, 9, 8), 4 * (noise(3, 3, 7, 9, 8, seed=1) - 0.5)
    single = [warp(image[i : i + 1], displacement[i : i + 1]) for i in range(3)]
    assert torch.equal(warp(image, displacement), torch.cat(single))


def test_gradcheck_of_image_and_displacement():
    image = noise(2, 2, 4, 5, 3, dtype=torch.float64).requires_grad_()
    away_from_kinks = 0.2 + 0.6 * noise(2, 3, 4, 5, 3, dtype=torch.float64, seed=1)
    whole = torch.randint(-2, 3, (2, 3, 4, 5, 3), generator=torch.Generator().manual_seed(2))
    displacement = (whole + away_from_kinks).requires_grad_()
    assert torch.autograd.gradcheck(warp, (image, displacement))
    assert torch.autograd.gradcheck(lambda i, d: warp(i, d, padding_mode="border"), (image, displacement))


def test_the_gradient_of_a_linear_image_is_its_slope_from_the_start():
    ramp = (2.0 * torch.arange(8.0) + 1).view(1, 1, 8, 1, 1).expand(1, 1, 8, 8, 8)
    displacement = torch.zeros(1, 3, 8, 8, 8, requires_grad=True)
    warp(ramp, displacement)[:, :, 1:-1].sum().backward()
    # at exact voxel centres the interpolation has a kink, on a ramp both sides have the slope 2
    torch.testing.assert_close(displacement.grad[:, 0, 1:-1, 1:-1, 1:-1], torch.full((1, 6, 6, 6), 2.0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_the_warp_in_float32(dtype):
    image, displacement = noise(1, 2, 12, 13, 14), 6 * (noise(1, 3, 12, 13, 14, seed=1) - 0.5)
    expected = warp(image, displacement)
    with torch.autocast("cpu", dtype=dtype):
        warped = warp(image, displacement)
    assert warped.dtype == torch.float32 and torch.equal(warped, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.uint8, torch.int16])
def test_narrow_images_are_warped_in_float32(dtype):
    image, displacement = (100 * noise(1, 1, 6, 6, 6)).to(dtype), 3 * (noise(1, 3, 6, 6, 6, seed=1) - 0.5)
    warped = warp(image, displacement)
    assert warped.dtype == torch.float32
    torch.testing.assert_close(warped, warp(image.float(), displacement), atol=0, rtol=0)


def test_a_first_call_without_gradient_does_not_spoil_a_later_one_with_it():
    shape = (1, 3, 11, 17, 29)  # sides that no other test uses: positions of a side are kept between calls
    with torch.inference_mode():
        warp(torch.rand(1, 1, 11, 17, 29), torch.zeros(shape))
    displacement = torch.full(shape, 0.3, requires_grad=True)
    warp(torch.rand(1, 1, 11, 17, 29), displacement).sum().backward()
    assert displacement.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("image_shape", "displacement_shape", "found"),
    [
        ((1, 1, 8, 8), (1, 2, 8, 8), r"image .*\(1, 1, 8, 8\)"),
        ((8, 8, 8), (1, 3, 8, 8, 8), r"image .*\(8, 8, 8\)"),
        ((1, 1, 8, 8, 8), (1, 2, 8, 8, 8), r"displacement .*\(1, 3, \*spatial\).*\(1, 2, 8, 8, 8\)"),
        ((2, 1, 8, 8, 8), (1, 3, 8, 8, 8), r"displacement .*\(2, 3, \*spatial\).*\(1, 3, 8, 8, 8\)"),
        ((1, 1, 8, 8, 8), (1, 8, 8, 8, 3), r"displacement .*\(1, 8, 8, 8, 3\)"),
        ((1, 1, 8, 8, 8), (1, 3, 8, 8), r"displacement .*\(1, 3, 8, 8\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(image_shape, displacement_shape, found):
    with pytest.raises(ValueError, match=found):
        warp(torch.zeros(image_shape), torch.zeros(displacement_shape))
