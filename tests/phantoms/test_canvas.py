# SPDX-License-Identifier: Apache-2.0
"""The canvas: its coordinates, the inverse of its warp, sweeping and painting."""

import numpy as np
import pytest

from custom.phantoms import shapes
from custom.phantoms.canvas import FAR, Canvas, random_warp

SHAPE, SPACING = (40, 36, 30), (2.0, 2.5, 3.0)


@pytest.fixture(scope="module")
def canvas() -> Canvas:
    rng = np.random.default_rng(3)
    warp = random_warp(rng, SHAPE, SPACING, 40.0, 8.0)
    return Canvas(SHAPE, SPACING, (4, -6, 8), shapes.random_rotation(rng, 12), (1.1, 0.9, 1.0), warp)


def test_warp_does_not_fold_and_moves_by_millimetres():
    for seed in range(5):
        warp = random_warp(np.random.default_rng(seed), SHAPE, SPACING, 40.0, 13.0)
        assert warp.shape == (3, *SHAPE) and warp.dtype == np.float32
        gradient = np.stack([np.stack(np.gradient(part, *SPACING)) for part in warp])
        jacobian = np.moveaxis(gradient, (0, 1), (-2, -1)) + np.eye(3)
        assert np.linalg.det(jacobian).min() > 0.1
        assert 0.5 < warp.std() < 13.0


def test_warp_refuses_an_amplitude_that_could_fold():
    with pytest.raises(ValueError, match="could fold"):
        random_warp(np.random.default_rng(0), SHAPE, SPACING, 30.0, 11.0)


def test_without_warp_the_coordinates_are_affine():
    plain = Canvas((5, 7, 9), (2, 3, 4), (10, 20, 30), np.eye(3), (2, 1, 1), np.zeros((3, 5, 7, 9), np.float32))
    np.testing.assert_allclose(plain.points[:, 2, 3, 4], [10, 20, 30])
    np.testing.assert_allclose(plain.points[:, 3, 4, 5], [11, 23, 34])  # twice the size: half the atlas step


def test_index_of_inverts_the_points(canvas):
    index = np.stack([np.random.default_rng(0).integers(3, n - 3, 50) for n in SHAPE], axis=1)
    positions = canvas.points[(slice(None), *index.T)].T
    np.testing.assert_allclose(canvas.index_of(positions), index, atol=0.05)


@pytest.mark.parametrize(("radius", "step"), [(14.0, 3.0), (1.2, 0.1)], ids=["boxes", "together"])
def test_sweep_equals_brute_force(canvas, radius, step):
    path = [[-60, 0, 0, radius], [0, 10, 15, 0.6 * radius], [20, -5, 30, radius]]
    samples = shapes.spline(path, step)
    swept = canvas.sweep(samples, reach=4.0)
    expected = shapes.spheres(canvas.points, samples)
    near = expected < 3.5
    np.testing.assert_allclose(swept[near], expected[near], atol=1e-4)
    assert (swept >= expected - 1e-4).all() and swept.max() == FAR


def test_paint_blends_edges_and_labels_the_inside():
    plain = Canvas((9, 1, 1), (2, 2, 2), (0, 0, 0), np.eye(3), (1, 1, 1), np.zeros((3, 9, 1, 1), np.float32))
    plain.paint(plain.points[0] - 0.5, 200.0, label=7)  # everything left of x = 0.5 mm
    # voxel centres at -8, ..., 8 mm: the voxel at 0 is covered to x = 0.5 of -1..1, three quarters
    np.testing.assert_allclose(plain.image[3:6, 0, 0], [200, -1000 + 0.75 * 1200, -1000])
    assert plain.label[:, 0, 0].tolist() == [7, 7, 7, 7, 7, 0, 0, 0, 0]
    box = (slice(0, 3), slice(0, 1), slice(0, 1))
    plain.paint(plain.points[0][box], 0.0, box, opacity=0.5)
    np.testing.assert_allclose(plain.image[0, 0, 0], 100)


def test_box_holds_the_shape(canvas):
    box = canvas.box((-10, -10, -10), (10, 10, 10))
    inside = (np.abs(canvas.points) < 10).all(axis=0)
    rest = inside.copy()
    rest[box] = False
    assert inside.any() and not rest.any()
