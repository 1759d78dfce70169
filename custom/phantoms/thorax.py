# SPDX-License-Identifier: Apache-2.0
"""The chest around the heart: wall, ribs, sternum, spine, abdomen below the diaphragm, airways and mediastinum."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas
from .contrast import Contrast
from .shapes import ellipsoid, smooth_intersection, smooth_union, spline, superellipse


class Thorax:
    """The trunk of one subject; its methods compute shapes in atlas coordinates and paint them onto a canvas.

    Args:
        rng: generator of habitus, diaphragm and skeleton.
        heart_bottom: lowest atlas height of the heart in mm; the diaphragm lies below it.
    """

    def __init__(self, rng: np.random.Generator, heart_bottom: float) -> None:
        self.half_width = rng.uniform(116, 128)
        self.exponent = rng.uniform(2.2, 2.6)
        self.front, self.back = rng.uniform(64, 70), rng.uniform(-108, -102)
        self.fat, self.muscle = rng.uniform(7, 26), rng.uniform(10, 15)
        self.breast = rng.uniform(0.55, 1.0) if rng.random() < 0.5 else 0.0
        self.rib_phase, self.rib_spacing = rng.uniform(0, 26), rng.uniform(23, 27)
        self.rib_drop = rng.uniform(72, 96)
        self.vertebra_phase, self.vertebra_height = rng.uniform(0, 24), rng.uniform(22.5, 26.0)
        self.vertebra_axes = np.array([rng.uniform(15.5, 18), rng.uniform(12, 14.5)])
        self.heart_bottom = heart_bottom
        self.right_dome = heart_bottom + rng.uniform(18, 34)
        self.left_dome = self.right_dome - rng.uniform(8, 18)
        self.bone = rng.uniform(0.85, 1.2)
        self.stomach_air = rng.uniform(0.2, 0.6)
        self.dependent = rng.uniform(20, 90)  # HU by which the lung is denser at the back than at the front

    # Geometry ---------------------------------------------------------------------------------------------------

    def spine_y(self, z: np.ndarray) -> np.ndarray:
        """Coordinate y in mm of the middle of the vertebral bodies at height z; the spine is curved (kyphosis)."""
        return -75 + 0.0009 * (z + 10) ** 2

    def cavity(self, points: np.ndarray, barrel: np.ndarray | None = None) -> np.ndarray:
        """Signed distance to the inner surface of the rib cage, into which spine and back muscles form a ridge.

        `barrel` is the result of the method `barrel` for these points, if it is known already.
        """
        x, y, z = points
        ridge = superellipse(x, y - self.spine_y(z) + 42, 46, 27, 2.0)
        return smooth_intersection(self.barrel(points) if barrel is None else barrel, -ridge, 24)

    def barrel(self, points: np.ndarray) -> np.ndarray:
        """Signed distance to the inner surface of the rib cage without the ridge of `cavity`."""
        x, y, z = points
        upward = np.maximum(z + 20, 0)
        half_width = self.half_width - 0.0022 * upward**2
        front = self.front - 0.0014 * np.maximum(z + 40, 0) ** 2 - 0.0012 * np.minimum(z + 40, 0) ** 2
        back = self.back + 0.0009 * (z + 10) ** 2
        return superellipse(x, y - (front + back) / 2, half_width, (front - back) / 2, self.exponent)

    def layers(self, points: np.ndarray, barrel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Signed distances to the outside of the muscles and to the skin."""
        x, y, z = points
        behind = 1 / (1 + np.exp((y + 55) / 12))
        paraspinal = 24 * np.exp(-((np.abs(x) - 22) ** 2) / 28**2) * behind
        lateral = 9 * np.exp(-((np.abs(x) - 110) ** 2) / 30**2) / (1 + np.exp(-(z + 10) / 25))
        pectoral = 10 * np.exp(-((np.abs(x) - 65) ** 2) / 32**2) * (1 - behind) / (1 + np.exp(-(z - 5) / 15))
        muscle = barrel - (self.muscle + paraspinal + lateral + pectoral)
        fat = self.fat * (1 + 0.35 * behind - 0.45 * np.exp(-(x**2) / 30**2) * (1 - behind))
        return muscle, self.with_breasts(points, muscle - fat)

    def with_breasts(self, points: np.ndarray, skin: np.ndarray) -> np.ndarray:
        """The distance to the skin after breasts are added, if the subject has them."""
        if not self.breast:
            return skin
        x, y, z = points
        center, semi_axes = (62, self.front + 14, -22), np.array([56, 44, 56]) * self.breast
        return smooth_union(skin, ellipsoid(np.stack([np.abs(x), y, z]), center, semi_axes), 20)

    def diaphragm(self, points: np.ndarray) -> np.ndarray:
        """Height above the diaphragm in mm, negative in the abdomen."""
        x, y, z = points
        right = self.right_dome - 0.011 * (x - 62) ** 2 - 0.0085 * (y + 6) ** 2
        left = self.left_dome - 0.012 * (x + 66) ** 2 - 0.0085 * (y + 8) ** 2
        middle = self.heart_bottom + 8 - 0.004 * (x + 12) ** 2 - 0.009 * (y - 12) ** 2
        top = -smooth_union(smooth_union(-right, -left, 12), -middle, 16)
        return (z - top) * np.float32(0.8)

    # Drawing ----------------------------------------------------------------------------------------------------

    def draw_wall(self, canvas: Canvas, contrast: Contrast, fine: np.ndarray, coarse: np.ndarray) -> np.ndarray:
        """Paint skin, fat, muscle, skeleton and the lung in the cavity; return the distance to the cavity."""
        points = canvas.points
        x, y, z = points
        barrel = self.barrel(points)
        cavity = self.cavity(points, barrel)
        muscle, skin = self.layers(points, barrel)
        canvas.paint(skin, 10.0)
        canvas.paint(skin + 2.2, contrast.fat + 6 * coarse)
        streaky = np.clip((coarse + 0.5 * fine) - 1.1, 0, 0.8) * np.float32(contrast.fat - contrast.muscle)
        canvas.paint(muscle + 0.15 * self.muscle * coarse, contrast.muscle + streaky)
        # a layer of fat between intercostal and outer muscles
        canvas.paint(np.abs(barrel - 10.5 - 1.5 * coarse) - 1.0, contrast.fat, opacity=0.6)
        canvas.paint(barrel - 8.5, contrast.muscle - 20)

        shell = np.abs(cavity) < 18
        where = np.nonzero(shell)
        depth, px, py, pz = cavity[where], x[where], y[where], z[where]
        angle = np.arctan2(np.abs(px), -(py + 25)) / np.float32(np.pi)  # 0 at the spine, 1 at the sternum
        drop = self.rib_drop * np.where(angle < 0.78, (angle / 0.78) ** 1.2, 1 - 2.6 * np.maximum(angle - 0.78, 0))
        side = np.where(px > 0, 0.0, 3.0)
        height = (pz + drop + self.rib_phase + side) % self.rib_spacing - self.rib_spacing / 2
        rib = (np.sqrt((height / 6.2) ** 2 + ((depth - 4.2) / 3.6) ** 2) - 1) * 4.0
        rib = np.where(np.abs(px) < 15, 9.0, rib).astype(np.float32)
        bony = angle < 0.80
        self._paint_at(canvas, where, np.where(bony, rib, 9), 520 * self.bone)
        self._paint_at(canvas, where, np.where(bony, rib + 1.9, 9), 170 * self.bone + 60 * fine[where])
        self._paint_at(canvas, where, np.where(bony | (angle > 0.985), 9, rib), 105.0)

        front = barrel - 5.5
        sternum = np.maximum(np.abs(front) - 5.0, np.maximum(np.abs(x + 1) - 13 - 0.08 * np.maximum(z, 0), -y))
        sternum = np.maximum(sternum, -(z + 52))
        canvas.paint(sternum, 380 * self.bone)
        canvas.paint(sternum + 2.0, 150 * self.bone + 50 * fine)

        # shoulder blades: thin plates between the muscles, with a tip below
        turn = np.abs(np.arctan2(np.abs(x), -(y + 20)) / np.float32(np.pi) - 0.26)
        blade = np.maximum(np.abs(barrel - 13 - 40 * turn) - 2.2, 190 * turn - 0.55 * (z - 22))
        canvas.paint(blade, 330 * self.bone)

        posterior = np.clip((20 - y) / 100, -0.2, 1.2)
        lung = contrast.lung + self.dependent * (posterior - 0.3) + 14 * coarse + 12 * fine
        canvas.paint(cavity, lung)
        return cavity

    @staticmethod
    def _paint_at(canvas: Canvas, where, distance: np.ndarray, value) -> None:
        image = canvas.image[where]
        canvas.image[where] = image + canvas.occupancy(distance) * (value - image)

    def draw_abdomen(self, canvas: Canvas, contrast: Contrast, cavity, coarse) -> np.ndarray:
        """Paint diaphragm, liver, stomach and spleen; return the height above the diaphragm."""
        points = canvas.points
        x, y, z = points
        above = self.diaphragm(points)
        inside = np.maximum(above, cavity - 1)
        canvas.paint(inside, contrast.muscle)
        canvas.paint(inside + 2.0, contrast.fat + 8 * coarse)
        # liver: the space under the right dome, and a thin part in front that extends to the left
        edge = (x + 38 + 0.35 * (y - 20) + 0.2 * (z + 60)) * np.float32(-0.9)
        liver = np.maximum(inside + 2.6, np.maximum(edge, -(y + 45 + 0.8 * np.maximum(x - 10, 0))))
        canvas.paint(liver, contrast.liver + 3 * coarse)
        stomach = ellipsoid(points, (-56, 14, self.left_dome - 36), (44, 46, 36))
        stomach = np.maximum(stomach, inside + 3.5)
        canvas.paint(stomach, 60.0)
        canvas.paint(stomach + 4, 25 + 10 * coarse)
        canvas.paint(np.maximum(stomach + 4, 32 * (1 - self.stomach_air) - y - 6), -960.0)
        spleen = np.maximum(ellipsoid(points, (-80, -46, self.left_dome - 40), (34, 46, 44)), inside + 3.5)
        canvas.paint(spleen, contrast.spleen * (1 + 0.06 * coarse))
        return above

    def draw_spine(self, canvas: Canvas, contrast: Contrast, fine: np.ndarray) -> None:
        """Paint vertebral bodies with cortex and end plates, discs, canal with cord, arches and processes."""
        box = canvas.box((-48, -190, -400), (48, -38, 400))
        x, y, z = canvas.points[(slice(None), *box)]
        fine = fine[box]

        def paint(distance, value, opacity=1.0):
            canvas.paint(distance, value, box, opacity=opacity)

        middle = self.spine_y(z)
        behind = y - middle
        height = (z + self.vertebra_phase) % self.vertebra_height - self.vertebra_height / 2
        half_disc = 2.4
        to_disc = np.abs(height) - (self.vertebra_height / 2 - half_disc)  # negative in the vertebra
        wide, deep = self.vertebra_axes
        waist = 1.6 * (1 - (np.abs(height) / (self.vertebra_height / 2)) ** 2)
        body = superellipse(x, behind, wide, deep, 2.5) + waist

        paint(superellipse(x, behind + 3, wide + 6, deep + 7, 2.2), contrast.muscle - 50)  # prevertebral tissue
        paint(superellipse(x, behind, wide, deep, 2.5) + 1.0, 85.0)  # discs
        vertebra = np.maximum(body, to_disc)
        paint(vertebra, 480 * self.bone)
        paint(np.maximum(body + 1.9, to_disc + 1.4), 190 * self.bone + 45 * fine)

        canal = np.hypot(x / 1.1, behind + 24)
        arch = np.abs(canal - 11.5) - 2.6
        lower = np.maximum(arch, np.abs(height + 2) - 7.5)
        paint(lower, 420 * self.bone)
        paint(lower + 1.6, 230 * self.bone)
        transverse_height = height - 4
        lateral = np.abs(x)
        transverse = np.sqrt(transverse_height**2 + (behind + 26 + 0.45 * (lateral - 12)) ** 2) - 4.6
        transverse = np.maximum(transverse, np.maximum(lateral - 34, 10 - lateral))
        paint(transverse, 430 * self.bone)
        paint(transverse + 1.8, 200 * self.bone)
        back = -(behind + 36)
        slope = (z + self.vertebra_phase + 0.9 * back) % self.vertebra_height - self.vertebra_height / 2
        spinous = np.maximum(np.abs(x) - 3.2, np.maximum(np.abs(slope) - 5.0, np.maximum(-back, back - 26)))
        paint(spinous, 400 * self.bone)
        paint(spinous + 1.6, 200 * self.bone)
        paint(canal - 9.0, -5.0)
        paint(np.hypot(x / 1.25, behind + 24) - 4.6, 45.0)

    @staticmethod
    def airways() -> np.ndarray:
        """Samples (n, 4) of trachea and main bronchi: x, y, z, radius in mm."""
        trachea = spline([[2, -30, 130, 8.8], [2, -34, 100, 8.6], [1, -38, 66, 8.6]], 1.5)
        right = spline([[1, -38, 66, 8.0], [18, -40, 50, 7.2], [36, -41, 38, 6.0], [46, -42, 24, 4.6]], 1.0)
        left = spline([[1, -38, 66, 7.6], [-18, -41, 49, 6.6], [-38, -47, 37, 5.6], [-50, -52, 24, 4.2]], 1.0)
        return np.vstack([trachea, right, left])
