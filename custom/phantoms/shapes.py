# SPDX-License-Identifier: Apache-2.0
"""Implicit shapes and curves for drawing phantoms on voxel grids, in millimetres.

An implicit shape is a function from points to signed distances, which are negative inside of the shape. Points are
arrays (3, ...) whose channel c holds the coordinate along axis c; distances are arrays (...).
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline, PchipInterpolator
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation


def ellipsoid(points: np.ndarray, center, semi_axes, axes=None) -> np.ndarray:
    """First-order signed distance to an ellipsoid; exact on the surface, and along the axes near the surface.

    Args:
        points: (3, ...) coordinates in mm.
        center: (3,) centre in mm.
        semi_axes: (3,) half lengths in mm.
        axes: (3, 3) matrix whose columns are the directions of the half lengths; None means the coordinate axes.
    """
    offset = [points[axis] - np.float32(center[axis]) for axis in range(3)]
    matrix = np.eye(3) if axes is None else np.asarray(axes)
    scaled_square = np.zeros_like(offset[0])
    gradient_square = np.zeros_like(offset[0])
    for column, length in zip(matrix.T, semi_axes, strict=True):
        along = sum(np.float32(weight) * part for weight, part in zip(column, offset, strict=True) if weight != 0)
        ratio = along * np.float32(1 / length)
        square = ratio * ratio
        scaled_square += square
        gradient_square += square * np.float32(1 / length**2)
    norm = np.sqrt(scaled_square)
    return norm * (norm - 1) / np.maximum(np.sqrt(gradient_square), np.float32(1e-6))


def half_space(points: np.ndarray, point, normal) -> np.ndarray:
    """Signed distance to the plane through `point`, positive on the side of `normal`, which may have any length."""
    unit = np.asarray(normal, dtype=np.float64) / np.linalg.norm(normal)
    return sum(np.float32(unit[axis]) * (points[axis] - np.float32(point[axis])) for axis in range(3))


def superellipse(first: np.ndarray, second: np.ndarray, half_first, half_second, exponent: float) -> np.ndarray:
    """First-order signed distance to |first/half_first|^n + |second/half_second|^n = 1 in the plane."""
    n = np.float32(exponent)
    a, b = np.abs(first) / half_first, np.abs(second) / half_second
    a_power, b_power = a ** (n - 1), b ** (n - 1)
    total = np.maximum(a * a_power + b * b_power, np.float32(1e-6))
    value = total ** (1 / n)
    gradient = value / total * np.hypot(a_power / half_first, b_power / half_second)
    return (value - 1) / np.maximum(gradient, np.float32(1e-4))


def spheres(points: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Signed distance to a union of spheres (n, 4: x, y, z, radius), which form a tube if they follow a curve."""
    distance = np.full(points.shape[1:], np.inf, dtype=np.float32)
    for x, y, z, radius in np.asarray(samples, dtype=np.float32):
        square = (points[0] - x) ** 2 + (points[1] - y) ** 2 + (points[2] - z) ** 2
        np.minimum(distance, np.sqrt(square) - radius, out=distance)
    return distance


def spline(path, step: float) -> np.ndarray:
    """Samples (m, 4) of the smooth curve through `path` (n >= 2, 4), about `step` mm apart; x, y, z, radius in mm.

    Positions follow a cubic spline over chord length. Radii follow a monotone spline, so they cannot overshoot.

    Raises:
        ValueError: `path` is not of shape (n >= 2, 4).
    """
    path = np.asarray(path, dtype=np.float64)
    if path.ndim != 2 or path.shape[0] < 2 or path.shape[1] != 4:
        raise ValueError(f"path must have shape (n >= 2, 4), x, y, z, radius; got {path.shape}.")
    chord = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path[:, :3], axis=0), axis=1))])
    where = np.linspace(0, chord[-1], max(2, int(np.ceil(chord[-1] / step)) + 1))
    position = CubicSpline(chord, path[:, :3], bc_type="natural")(where)
    return np.column_stack([position, PchipInterpolator(chord, path[:, 3])(where)])


def smooth_union(first: np.ndarray, second: np.ndarray, radius: float) -> np.ndarray:
    """Union whose concave edge is rounded over about `radius` mm (polynomial smooth minimum)."""
    blend = np.maximum(np.float32(radius) - np.abs(first - second), 0)
    return np.minimum(first, second) - blend * blend * np.float32(0.25 / radius)


def smooth_intersection(first: np.ndarray, second: np.ndarray, radius: float) -> np.ndarray:
    """Intersection whose convex edge is rounded over about `radius` mm."""
    return -smooth_union(-first, -second, radius)


def intersection(first: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """Intersection with sharp edges."""
    for other in others:
        first = np.maximum(first, other)
    return first


def subtract(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The first shape without the second."""
    return np.maximum(first, -second)


def basis_along(direction, hint=(0.0, 0.0, 1.0)) -> np.ndarray:
    """Right-handed orthonormal basis (3, 3): column 0 is along `direction`, column 2 as close to `hint` as possible."""
    first = np.asarray(direction, dtype=np.float64) / np.linalg.norm(direction)
    third = np.asarray(hint, dtype=np.float64) - first * np.dot(first, hint)
    third /= np.linalg.norm(third)
    return np.column_stack([first, np.cross(third, first), third])


def random_rotation(rng: np.random.Generator, max_degrees: float) -> np.ndarray:
    """Rotation matrix (3, 3) about a random axis by an angle uniform in [0, max_degrees]."""
    axis = rng.normal(size=3)
    return Rotation.from_rotvec(axis / np.linalg.norm(axis) * np.deg2rad(rng.uniform(0, max_degrees))).as_matrix()


def smooth_noise(rng: np.random.Generator, shape, sigma) -> np.ndarray:
    """Gaussian noise of mean 0 and variance 1, float32, correlated over `sigma` voxels (one number, or one an axis)."""
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma, mode="wrap", truncate=3.0)
    return (noise - noise.mean()) / noise.std()


def snap_to_surfaces(points: np.ndarray, distances, levels, iterations: int = 10, max_step: float = 3.0) -> np.ndarray:
    """Move each point as little as possible until every distance function has its target value (Gauss-Newton).

    Args:
        points: (n, 3) start positions in mm.
        distances: one to three functions from points (3, n) to signed distances in mm.
        levels: the target value of each function in mm.
        iterations: number of steps.
        max_step: length of the largest step in mm.
    """
    points = np.asarray(points, dtype=np.float64).copy()
    shift = 0.5
    for _ in range(iterations):
        around = points.T[:, :, None] + shift * np.concatenate([np.zeros((3, 1)), np.eye(3)], axis=1)[:, None]
        # (n, surfaces, 4): the values at the point, and one step along each axis
        value = np.stack([f(around) for f in distances], axis=1)
        residual = value[..., 0] - np.asarray(levels)
        jacobian = (value[..., 1:] - value[..., :1]) / shift
        step = np.einsum("nij,nj->ni", np.linalg.pinv(jacobian, rcond=0.1), residual)
        length = np.linalg.norm(step, axis=1, keepdims=True)
        points -= step * np.minimum(1.0, max_step / np.maximum(length, 1e-9))
    return points
