# SPDX-License-Identifier: Apache-2.0
"""The whole chest: the thorax around the heart, extended upwards to the tips of the lungs and to the shoulders."""

from __future__ import annotations

import numpy as np

from .heart import Heart
from .shapes import ellipsoid, smooth_intersection, smooth_union
from .thorax import Thorax


class Chest(Thorax):
    """A thorax whose cavity ends above in one dome for each lung. The depth of the breath moves the diaphragm."""

    def __init__(self, rng: np.random.Generator, heart: Heart) -> None:
        super().__init__(rng, heart_bottom=heart.lowest_point())
        descent = rng.uniform(0, 28)  # mm that a deeper breath lowers the diaphragm
        self.right_dome -= descent
        self.left_dome -= descent
        self.apex = rng.uniform(112, 130)
        self.shoulder = rng.uniform(20, 34)
        self.dependent = rng.uniform(20, 110)

    def barrel(self, points: np.ndarray) -> np.ndarray:
        """Signed distance to the rib cage of the thorax, closed above by a dome over each lung."""
        x, y, z = points
        side = np.abs(x) - 36
        height = self.apex - 0.012 * side**2 - 0.009 * (y + 42) ** 2
        return smooth_intersection(super().barrel(points), (z - height) * np.float32(0.8), 18)

    def layers(self, points: np.ndarray, barrel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Signed distances to the outside of the muscles and to the skin, with shoulders and neck."""
        muscle, _ = super().layers(points, barrel)
        x, y, z = points
        shoulder = ellipsoid(np.stack([np.abs(x), y, z]), (88, -38, 122), np.array([78, 54, 88]))
        neck = ellipsoid(points, (0, -42, 190), (70, 66, 130))
        muscle = smooth_union(smooth_union(muscle, shoulder, self.shoulder), neck, 30)
        fat = self.fat * (1 - 0.4 * np.exp(-(x**2) / 30**2) * (y > 0))
        return muscle, self.with_breasts(points, muscle - fat)
