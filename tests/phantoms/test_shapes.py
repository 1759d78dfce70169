# SPDX-License-Identifier: Apache-2.0
"""Signed distances and curves against hand-worked values and brute-force sampling."""

import numpy as np
import pytest

from custom.phantoms import shapes


def grid(step: float = 1.0, half: float = 20.0) -> np.ndarray:
    axis = np.arange(-half, half + step, step, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))


def test_sphere_as_ellipsoid_is_exact():
    points = grid(2.0)
    distance = shapes.ellipsoid(points, (1, 2, 3), (10, 10, 10))
    expected = np.sqrt((points[0] - 1) ** 2 + (points[1] - 2) ** 2 + (points[2] - 3) ** 2) - 10
    np.testing.assert_allclose(distance, expected, atol=1e-4)


def test_turned_ellipsoid_has_its_volume_and_direction():
    direction = np.array([1.0, 1.0, 0.0])
    axes = shapes.basis_along(direction)
    inside = shapes.ellipsoid(grid(0.5), (0, 0, 0), (15, 6, 9), axes) < 0
    volume = inside.sum() * 0.5**3
    assert volume == pytest.approx(4 / 3 * np.pi * 15 * 6 * 9, rel=0.01)
    tips = np.array([[14.8, 15.2]]) * (direction / np.sqrt(2))[:, None]
    assert (shapes.ellipsoid(tips, (0, 0, 0), (15, 6, 9), axes) < 0).tolist() == [True, False]


def test_half_space_normalises_and_is_negative_against_the_normal():
    points = np.array([[0.0, 3.0], [0.0, 0.0], [0.0, 4.0]])
    np.testing.assert_allclose(shapes.half_space(points, (0, 0, 0), (0, 0, 7)), [0, 4], atol=1e-6)


def test_superellipse_with_exponent_two_is_a_circle():
    first, second = np.array([0.0, 5.0, 12.0], np.float32), np.array([7.0, 0.0, 5.0], np.float32)
    np.testing.assert_allclose(shapes.superellipse(first, second, 10, 10, 2), [-3, -5, 3], atol=1e-4)


def test_spline_passes_through_its_points_with_monotone_radius():
    path = np.array([[0, 0, 0, 3], [10, 5, 0, 3], [20, 0, 4, 1], [30, 0, 0, 1]], float)
    samples = shapes.spline(path, 0.05)
    for point in path:
        assert np.linalg.norm(samples - point, axis=1).min() < 0.05
    assert (np.diff(samples[:, 3]) <= 1e-9).all()
    assert np.linalg.norm(np.diff(samples[:, :3], axis=0), axis=1).max() < 0.08


@pytest.mark.parametrize("path", [np.zeros((1, 4)), np.zeros((5, 3))])
def test_spline_names_a_bad_shape(path):
    with pytest.raises(ValueError, match=str(path.shape).replace("(", r"\(").replace(")", r"\)")):
        shapes.spline(path, 1.0)


def test_smooth_union_fills_only_the_crease():
    a = np.array([0.0, 0.0, -1.0, 5.0])
    b = np.array([0.0, 9.0, 3.0, 5.0])
    np.testing.assert_allclose(shapes.smooth_union(a, b, 4), [-1, 0, -1, 4])
    np.testing.assert_allclose(shapes.smooth_intersection(a, b, 4), [1, 9, 3, 6])


def test_set_operations():
    a, b = np.array([-1.0, -1.0, 1.0]), np.array([-2.0, 2.0, -2.0])
    np.testing.assert_array_equal(shapes.intersection(a, b), [-1, 2, 1])
    np.testing.assert_array_equal(shapes.subtract(a, b), [2, -1, 2])


def test_random_rotation_is_a_rotation_within_its_limit():
    for seed in range(20):
        matrix = shapes.random_rotation(np.random.default_rng(seed), 15)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(matrix) == pytest.approx(1)
        assert np.degrees(np.arccos((np.trace(matrix) - 1) / 2)) <= 15 + 1e-6


def test_smooth_noise_is_normalised_and_correlated():
    noise = shapes.smooth_noise(np.random.default_rng(0), (40, 40, 40), 2.0)
    assert abs(noise.mean()) < 1e-5 and noise.std() == pytest.approx(1, abs=1e-4)
    # neighbours of white noise smoothed by s correlate by exp(-1 / (4 s^2))
    assert np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1] == pytest.approx(np.exp(-1 / 16), abs=0.02)


def test_snap_finds_the_circle_where_two_spheres_meet():
    def first(points):
        return np.sqrt((points[0] + 5) ** 2 + points[1] ** 2 + points[2] ** 2) - 10

    def second(points):
        return np.sqrt((points[0] - 5) ** 2 + points[1] ** 2 + points[2] ** 2) - 10

    start = np.array([[2.0, 9.0, 3.0], [-1.0, -2.0, 8.0]])
    snapped = shapes.snap_to_surfaces(start, [first, second], [1.0, 1.0])
    # both at distance 11 from centres at x = -5 and 5: x = 0 and radius sqrt(121 - 25)
    np.testing.assert_allclose(snapped[:, 0], 0, atol=0.05)
    np.testing.assert_allclose(np.linalg.norm(snapped[:, 1:], axis=1), np.sqrt(96), atol=0.05)
