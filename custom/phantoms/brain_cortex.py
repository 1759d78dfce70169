# SPDX-License-Identifier: Apache-2.0
"""The folded cerebrum: hull, fissures and sulci as distances in atlas millimetres.

Atlas coordinates are RAS millimetres with the anterior commissure near the origin. Both hemispheres are computed as
one, in which the coordinate `a` is |x|.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.fft import irfftn, rfftn
from scipy.ndimage import gaussian_filter, map_coordinates

from .canvas import Canvas
from .shapes import ellipsoid, smooth_intersection, smooth_union, spheres, spline

LATTICE, LATTICE_STEP = 72, 2.5  # voxels along each axis of the periodic sulcal pattern, and their size in mm
WAVELENGTH = 20.0  # mm; the distance between two sulci is half of it
COMMON_SEED = 2023  # seed of the sulci that all subjects share
TEMPORAL_LOBE = ((42, 16, -23, 11), (45, 4, -22, 16), (46, -20, -20, 18), (45, -48, -10, 20))  # x, y, z, radius


def mirrored(points: np.ndarray) -> np.ndarray:
    """Points (|x|, y, z): the left side mirrored onto the right side."""
    return np.stack([np.abs(points[0]), points[1], points[2]])


def tentorium(a: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Height z in mm of the tentorium, the membrane between cerebrum and cerebellum."""
    return np.float32(1) - np.float32(0.42) * a - np.float32(0.22) * np.maximum(-45 - y, 0)


def cerebral_hull(points: np.ndarray) -> np.ndarray:
    """Signed distance to the smooth surface around the gyri of both hemispheres, from mirrored points."""
    a, y, z = points
    narrow = 1 + np.float32(0.0022) * np.maximum(y + 30, 0)  # the forehead is narrower than the back
    vault = ellipsoid(np.stack([a * narrow, y, z]), (0, -19, 6), (67, 86, 62))
    front = np.clip((y - 2) / 12, 0, 1)
    back = np.clip((-30 - y) / 12, 0, 1)
    floor = front * (-21 + 0.12 * a) + back * (tentorium(a, y) + 1.5) + (1 - front - back) * -15
    vault = smooth_intersection(vault, (floor - z) * np.float32(0.93), 10.0)
    temporal = spheres(points, spline(TEMPORAL_LOBE, 7.0))
    medial = ellipsoid(points, (28, -15, -20), (13, 25, 11))  # parahippocampal gyrus and uncus
    temporal = smooth_intersection(smooth_union(temporal, medial, 8.0), _vault_sides(a, narrow), 6.0)
    return smooth_union(vault, temporal, 3.0)


def _vault_sides(a: np.ndarray, narrow: np.ndarray) -> np.ndarray:
    """Signed distance to the side walls of the vault, beyond which the temporal lobe must not extend."""
    return a * narrow - 65


def midline_core(y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Signed distance in the midline plane to the region under the corpus callosum. No fissure cuts into it."""
    rho = np.sqrt(((y + 4) / 38) ** 2 + (z / 30) ** 2)
    arch = (rho - 1) * 33
    below = np.maximum(np.maximum(y - 10, -36 - y), z)
    return np.minimum(arch, below)


def fold(canvas: Canvas, box, hull: np.ndarray, rng: np.random.Generator, sulcus_width: float) -> np.ndarray:
    """Depth in mm below the pial surface, the folded outer surface of the cortex.

    Sulci are the zero level of band-limited noise that is constant along the direction from the hull inwards; they end
    at a depth that varies. The midline fissure and the Sylvian fissure are shapes of their own.

    Args:
        canvas: the grid; nothing is painted.
        box: slices of the part of the grid to compute.
        hull: distances of `cerebral_hull` in that part.
        rng: generator of the sulci of this subject.
        sulcus_width: half the gap between two gyri in mm.

    Returns:
        the depth in that part, negative in sulci and outside of the cerebrum.
    """
    points = canvas.points[(slice(None), *box)]
    right = mirrored(points)
    a, y, z = right
    core = midline_core(y, z)
    midline = np.hypot(a, np.maximum(-core, 0)) - np.float32(0.7)
    sylvian = _sylvian(right)
    depth = np.minimum(np.minimum(-hull, midline), sylvian)
    noise, slow = _sulcal_noise(canvas, points, depth, hull < 4, rng)
    gradient = np.sqrt(sum(part**2 for part in np.gradient(noise, *canvas.spacing)))
    sheet = np.abs(noise) / np.maximum(gradient, 0.06)
    # sulci are less deep in the temporal lobe, and still less in the fissures
    low = np.where((z + 5.0 + 0.36 * y < 2) & (y > -45), 0.58, 1.0)
    low = np.where(sylvian <= depth, 0.35, np.where(midline <= depth, 0.52, low))
    low *= 1 - 0.3 * np.clip((np.abs(y + 12) - 43) / 25, 0, 1)  # the poles are narrow
    bottom = gaussian_filter((17.5 + 5 * slow) * low, 1.5)
    width = sulcus_width * np.clip(1.15 - 0.6 * depth / bottom, 0.3, 1.2)
    sulci = np.hypot(sheet, np.maximum(depth - bottom, 0)) - width
    pial = smooth_union(depth, sulci, 2.5)
    callosum = np.where(a < 13, 2.5 - core, -99)  # no cortex on its upper face
    capsules = 2.0 - ellipsoid(right, (17, -5, 5), (17, 34, 18))  # white matter around the nuclei
    bare = np.minimum(np.maximum(np.minimum(callosum, midline + 2), capsules), -hull)
    return np.maximum(pial, bare).astype(np.float32)


def _sylvian(points: np.ndarray) -> np.ndarray:
    """Signed distance to the Sylvian fissure: a sheet from the side inwards, and at its end the gap over the insula."""
    a, y, z = points
    height = z + 5.0 + 0.36 * y
    along = np.maximum(np.maximum(y - 24, -44 - y), 0)
    sheet = np.sqrt((0.94 * height) ** 2 + np.maximum(37 - a, 0) ** 2 + along**2)
    insula = a - 38 + 0.012 * (y + 4) ** 2 + 0.008 * (height - 3) ** 2
    beyond = np.maximum(np.hypot((y + 4) / 21, (height - 3) / 15) - 1, 0) * 16
    return np.minimum(sheet, np.hypot(insula, beyond)) - np.float32(0.9)


def _sulcal_noise(canvas: Canvas, points: np.ndarray, depth: np.ndarray, near, rng) -> tuple[np.ndarray, np.ndarray]:
    """Band-limited noise whose zero level is perpendicular to the hull, and a field in [-1, 1] that varies slowly.

    Both are computed where the mask `near` is true. Elsewhere the noise is one and the field is zero.
    """
    inverse = np.linalg.inv(canvas.matrix).T.astype(np.float32)
    slope = np.gradient(gaussian_filter(depth, 1.0))
    inwards = np.einsum("ij,jn->in", inverse, np.stack([part[near] for part in slope]))
    inwards /= np.maximum(np.sqrt((inwards**2).sum(axis=0)), 0.3)
    points, depth = points[:, near], depth[near]
    here = mirrored(points) / np.float32(LATTICE_STEP)
    bends = _common_pattern(28.0)
    root = points - inwards * np.clip(depth, -3, 24)  # up to the hull, along a path that is not quite straight
    for axis in range(3):
        root[axis] += _look_up(bends, np.roll(here, axis, axis=0)) * np.clip(depth * 0.22, 0, 2.4)
    cell = root / np.float32(LATTICE_STEP)
    sides = mirrored(cell)
    noise, slow = np.ones(near.shape, dtype=np.float32), np.zeros(near.shape, dtype=np.float32)
    noise[near] = 0.8 * _look_up(_common_pattern(), sides) + 0.45 * _look_up(_pattern(rng), cell + np.float32(0.5))
    slow[near] = np.tanh(_look_up(_common_pattern(60.0), sides))
    return noise, slow


def _look_up(pattern: np.ndarray, cell: np.ndarray) -> np.ndarray:
    return map_coordinates(pattern, cell, order=1, mode="grid-wrap", output=np.float32)


@lru_cache(maxsize=4)
def _common_pattern(wavelength: float = WAVELENGTH) -> np.ndarray:
    return _pattern(np.random.default_rng([COMMON_SEED, int(wavelength)]), wavelength)


def _pattern(rng: np.random.Generator, wavelength: float = WAVELENGTH) -> np.ndarray:
    """Periodic noise of unit variance with a wavelength of about `wavelength` mm."""
    white = rng.standard_normal((LATTICE, LATTICE, LATTICE), dtype=np.float32)
    frequency = np.fft.fftfreq(LATTICE, LATTICE_STEP)
    radius = np.sqrt(
        frequency[:, None, None] ** 2 + frequency[:, None] ** 2 + np.fft.rfftfreq(LATTICE, LATTICE_STEP) ** 2
    )
    ring = np.exp(-(((radius * wavelength - 1) / 0.22) ** 2))
    noise = irfftn(rfftn(white) * ring, s=white.shape)
    return (noise / noise.std()).astype(np.float32)
