# SPDX-License-Identifier: Apache-2.0
"""Dense parts of the lungs: ground glass and consolidation in patients, settled fluid in others, nodules in all.

Fluid that fills the share f of the air in a voxel raises its value from v to v + f (TISSUE - v). Vessels have the
value of tissue already: they stay visible in ground glass (f about 0.1 to 0.5) and not in consolidation (f near 1).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt

from .canvas import Canvas
from .shapes import smooth_noise

TISSUE = 35.0  # HU of fluid and collapsed lung
AIR = -985.0


class LungGeometry(NamedTuple):
    """The position of the lungs on the grid."""

    points: np.ndarray  # (3, *shape) atlas coordinates in mm
    mask: np.ndarray  # bool mask of the lungs on the same grid
    spacing: np.ndarray  # voxel size of the grid in mm

    def depth(self) -> np.ndarray:
        """Distance in mm from the surface of the lungs; 0 outside of them."""
        return distance_transform_edt(self.mask, sampling=self.spacing).astype(np.float32)

    def height_over_back(self) -> np.ndarray:
        """Distance in mm from the back of the lung, along lines from back to front; 0 outside of the lungs."""
        y = np.where(self.mask, self.points[1], np.inf)
        return np.where(self.mask, self.points[1] - y.min(axis=1, keepdims=True, initial=1e3), 0).astype(np.float32)

    def low(self) -> np.ndarray:
        """Relative depth below the tips of the lungs: 0 at the tips, 1 at the lowest voxel."""
        z = self.points[2]
        return (z[self.mask].max() - z) / np.ptp(z[self.mask])


def fill(image: np.ndarray, share: np.ndarray, lung: np.ndarray) -> np.ndarray:
    """The image (HU) after fluid has replaced air.

    Args:
        image: HU before.
        share: share of the air that the fluid fills (0 to 1), whole grid.
        lung: share of each voxel that is lung (0 to 1), whole grid.
    """
    return image + share * lung * np.maximum(np.float32(TISSUE) - image, 0)


def opacities(
    rng: np.random.Generator, geometry: LungGeometry, fine: np.ndarray, coarse: np.ndarray, severity: float
) -> np.ndarray:
    """COVID-like opacities: several patches with soft edges in both lungs, most of them low, posterior and subpleural.

    Args:
        rng: generator of the patches of this subject.
        geometry: the lungs.
        fine: noise of unit variance, whole grid.
        coarse: noise of unit variance over longer distances, whole grid.
        severity: 0 to 1; it raises number, size and density of the patches and the share of consolidated ones.

    Returns:
        the share of air that is filled with fluid, whole grid, 0 outside of the lungs.
    """
    points, inside = geometry.points, geometry.mask
    behind = np.exp(-geometry.height_over_back() / 90)
    depth = geometry.depth()
    likely = inside * np.exp(-depth / 9) * (0.25 + geometry.low()) * behind
    free = np.ones(inside.shape, dtype=np.float32)
    for number in range(7 + rng.poisson(2 + 14 * severity)):
        side = inside & ((points[0] > 0) == (number % 2 == 0))
        peripheral = rng.random() < 0.85
        center = _draw_position(rng, geometry, likely * side if peripheral else side)
        radius = rng.uniform(14, 22) + 18 * severity * rng.random()
        stretch = rng.uniform(0.75, 1.35, size=3)
        distance = np.sqrt(sum(((points[a] - center[a]) / np.float32(stretch[a])) ** 2 for a in range(3)))
        distance += np.float32(radius) * (0.35 * coarse + 0.15 * fine - 1)  # a ragged edge
        if peripheral:  # flat, along the pleura
            distance += np.float32(0.6) * depth
        density = rng.uniform(0.22, 0.4) + 0.1 * severity * rng.random()
        patch = _edge(distance, density, rng.uniform(2.5, 5.0))
        if rng.random() < 0.15 + 0.5 * severity:  # a consolidated core
            core = distance + np.float32(rng.uniform(0.3, 0.6) * radius)
            patch = np.maximum(patch, _edge(core, rng.uniform(0.6, 0.95), 2.5))
        free *= 1 - patch * side
    return ((1 - free) * (1 + 0.2 * fine)).clip(0, 0.97)


def settle(share: np.ndarray, rng: np.random.Generator, geometry: LungGeometry) -> np.ndarray:
    """Sort the values of `share` as in dependent atelectasis: largest at the back of the lungs, smaller to the front.

    The set of values stays the same, so a healthy subject differs from a patient only in their arrangement.

    Args:
        share: share of air that is filled with fluid, whole grid, 0 outside of the lungs.
        rng: generator of the unevenness of this subject.
        geometry: the lungs.
    """
    height = geometry.height_over_back()
    uneven = smooth_noise(rng, share.shape, 25.0 / geometry.spacing)
    order = height * (1 + np.float32(rng.uniform(0.05, 0.2)) * uneven) + np.float32(rng.uniform(10, 50)) * (
        1 - geometry.low()
    )
    settled = np.zeros_like(share)
    where = np.flatnonzero(geometry.mask)
    values = share.reshape(-1)[where]
    settled.reshape(-1)[where[np.argsort(order.reshape(-1)[where], kind="stable")]] = np.sort(values)[::-1]
    return settled


def with_values_of(source: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Exact histogram matching: the values of `source` in the rank order of `image`; both are one-dimensional."""
    matched = np.empty_like(image)
    matched[np.argsort(image, kind="stable")] = np.sort(source)
    return matched


def draw_mosaic(canvas: Canvas, rng: np.random.Generator, lung: np.ndarray) -> None:
    """Vary the density of the lungs a little over distances of several centimetres."""
    mosaic = smooth_noise(rng, canvas.shape, rng.uniform(15, 30) / canvas.spacing)
    strength = np.float32(rng.uniform(0.01, 0.045))
    canvas.image = fill(canvas.image, np.clip(strength * mosaic, 0, 1), lung)
    canvas.image -= np.clip(-strength * mosaic, 0, 1) * lung * np.maximum(canvas.image - AIR, 0)


def draw_nodules(canvas: Canvas, rng: np.random.Generator, geometry: LungGeometry, lung: np.ndarray) -> None:
    """Paint small solid nodules with sharp edges; their number is random (2.5 on average) and may be zero."""
    for _ in range(rng.poisson(2.5)):
        center = _draw_position(rng, geometry, geometry.mask)
        distance = np.sqrt(sum((geometry.points[a] - center[a]) ** 2 for a in range(3)))
        nodule = canvas.occupancy(distance - np.float32(rng.uniform(2.0, 4.5)))
        canvas.image = fill(canvas.image, nodule, lung)


def _edge(distance: np.ndarray, inside: float, width: float) -> np.ndarray:
    """`inside` where the distance (mm) is negative, 0 where it is positive, and a smooth step of about `width` mm."""
    return np.float32(inside) / (1 + np.exp(np.clip(distance / np.float32(width), -30, 30)))


def _draw_position(rng: np.random.Generator, geometry: LungGeometry, weight: np.ndarray) -> np.ndarray:
    """Atlas position (3,) of a voxel drawn with probability proportional to `weight`."""
    chance = np.cumsum(weight.reshape(-1), dtype=np.float64)
    index = np.searchsorted(chance, rng.random() * chance[-1], side="right")
    return geometry.points.reshape(3, -1)[:, min(index, len(chance) - 1)]
