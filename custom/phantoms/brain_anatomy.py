# SPDX-License-Identifier: Apache-2.0
"""Draws the brain onto a canvas: cortex and white matter, deep grey nuclei, ventricles, brain stem, cerebellum.

Both sides are drawn with the labels of the left side; `brain.py` afterwards writes the labels of the right side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..labels import BRAIN_LABELS
from .brain_cortex import fold, mirrored, tentorium
from .canvas import Canvas
from .shapes import basis_along, ellipsoid, smooth_union, spheres, spline

BRAIN_BOX = ((-72, -110, -76), (72, 74, 74))  # atlas mm
LOWEST = -64  # mm; the labels of brain stem and fluid end here, at the foramen magnum
# Tubes along curves: x, y, z, radius in mm.
CAUDATE = ((12, 21, -2, 5.0), (13.5, 14, 4, 7.0), (14, 4, 12, 5.2), (16, -9, 18, 3.6),
           (20, -22, 19, 2.6), (26, -33, 13, 2.2), (30, -36, 3, 2.0))  # fmt: skip
HIPPOCAMPUS = ((23, -8, -20, 6.0), (25, -13, -19.5, 6.6), (28, -21, -16.5, 5.8),
               (29, -30, -10, 4.9), (25, -38, -3, 3.8), (20, -41, 3, 2.6))  # fmt: skip
LATERAL_VENTRICLE = ((6, 26, 3, 2.6), (4.8, 18, 8.5, 3.8), (4.5, 6, 14.5, 3.9), (5.2, -8, 17.5, 4.1),
                     (10, -24, 17.5, 4.8), (20, -37, 11, 6.0), (26, -42, 3, 4.8))  # fmt: skip
OCCIPITAL_HORN = ((23, -41, 7, 5.0), (25, -55, 4, 3.2), (23, -72, 3, 1.8))
TEMPORAL_HORN = ((26, -41, 2, 4.4), (32.5, -34, -6, 3.0), (34.5, -22, -14, 2.4), (31, -10, -18, 2.2),
                 (28, -5, -16, 1.8))  # fmt: skip
MEDULLA = ((0, -32, -36, 9.0), (0, -37, -46, 8.0), (0, -41, -60, 7.0), (0, -46, -78, 6.0), (0, -48, -110, 6.0))


@dataclass(frozen=True)
class Brain:
    """The numbers in which brains differ, in addition to size, pose and smooth warp."""

    ventricles: float  # width of the ventricles relative to the atlas
    cortex: float  # thickness of the cortex in mm
    sulci: float  # half the width of the sulci in mm
    nuclei: float  # size of the deep grey nuclei relative to the atlas
    medial_temporal: float  # size of hippocampus and amygdala relative to the atlas

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Brain:
        """Draw a brain between young and slightly atrophic. Brains with wide ventricles also have wide sulci."""
        atrophy = rng.uniform(0, 1)
        return cls(
            ventricles=0.85 + 0.45 * atrophy + rng.uniform(-0.05, 0.1),
            cortex=rng.uniform(2.4, 2.9) - 0.2 * atrophy,
            sulci=0.55 + 0.35 * atrophy + rng.uniform(0, 0.1),
            nuclei=rng.uniform(0.94, 1.06),
            medial_temporal=rng.uniform(0.94, 1.08) - 0.06 * atrophy,
        )


@dataclass(frozen=True)
class TissueContrast:
    """T1-weighted signal of the tissues relative to white matter."""

    grey: float
    fluid: float
    thalamus: float
    pallidum: float
    striatum: float
    stem: float
    fat: float
    muscle: float
    marrow: float
    white: float = 1.0

    @classmethod
    def draw(cls, rng: np.random.Generator) -> TissueContrast:
        grey = rng.uniform(0.62, 0.73)
        return cls(
            grey=grey,
            fluid=rng.uniform(0.15, 0.3),
            thalamus=grey + (1 - grey) * rng.uniform(0.4, 0.6),
            pallidum=grey + (1 - grey) * rng.uniform(0.65, 0.9),
            striatum=grey + (1 - grey) * rng.uniform(0.1, 0.3),
            stem=rng.uniform(0.88, 0.96),
            fat=rng.uniform(1.0, 1.4),
            muscle=rng.uniform(0.38, 0.52),
            marrow=rng.uniform(0.35, 0.7),
        )


def draw_brain(canvas: Canvas, brain: Brain, contrast: TissueContrast, hull: np.ndarray, rng) -> None:
    """Paint the brain and its labels over the cerebrospinal fluid, which must be on the canvas already.

    `hull` holds the distances of `cerebral_hull` on the whole grid; `rng` draws the sulci.
    """
    box = canvas.box(*BRAIN_BOX)
    pial = fold(canvas, box, hull[box], rng, brain.sulci)
    canvas.paint(-pial, contrast.grey, box)
    canvas.label[box][pial > -0.25] = _label("cerebral_cortex")  # closes the narrowest sulci, as manual labels do
    canvas.paint(brain.cortex - pial, contrast.white, box, _label("cerebral_white_matter"))
    points = mirrored(canvas.points[(slice(None), *box)])
    stem = _stem(points)
    _draw_cerebellum(canvas, box, points, stem, contrast)
    canvas.paint(stem, contrast.stem, box)  # the spinal cord continues below the label
    canvas.label[box][(stem < 0) & (points[2] > LOWEST)] = BRAIN_LABELS["brain_stem"]
    deep = canvas.box((-45, -80, -40), (45, 40, 32))
    points = mirrored(canvas.points[(slice(None), *deep)])
    for name, distance, value in _nuclei(points, brain, contrast):
        canvas.paint(distance, value, deep, _label(name))
    for name, distance in _ventricles(points, brain):
        canvas.paint(distance, contrast.fluid, deep, _label(name))


def _label(name: str) -> int:
    """Label value of a structure of the midline or of the left side."""
    return BRAIN_LABELS[name] if name in BRAIN_LABELS else BRAIN_LABELS[f"left_{name}"]


def _tube(points: np.ndarray, path, width: float = 1.0, step: float = 2.5) -> np.ndarray:
    samples = spline(path, step)
    samples[:, 3] *= width
    return spheres(points, samples)


def _nuclei(points: np.ndarray, brain: Brain, contrast: TissueContrast):
    """Yield name, distance and signal of the deep grey nuclei in the order in which they are painted."""
    size, temporal = brain.nuclei, brain.medial_temporal
    yield "ventral_diencephalon", ellipsoid(points, (8.5, -17, -10), (9.5, 14, 7.5)), 0.94 * contrast.stem
    yield "caudate", _tube(points, CAUDATE, size), contrast.striatum
    tilted = basis_along((0.27, -1, 0.05))
    yield "putamen", ellipsoid(points, (26, 1, 0), np.array([19, 5.6, 11.5]) * size, tilted), contrast.striatum
    yield "pallidum", ellipsoid(points, (19, -3.5, -2), np.array([10, 4.6, 7]) * size, tilted), contrast.pallidum
    turned = basis_along((0.35, -1, 0.1))
    thalamus = ellipsoid(points, (11, -18, 5), np.array([17.5, 9.6, 11]) * size, turned)
    yield "thalamus", np.maximum(thalamus, -3.0 - points[2]), contrast.thalamus
    yield "hippocampus", _tube(points, HIPPOCAMPUS, temporal), contrast.grey
    yield "amygdala", ellipsoid(points, (22.5, -1, -17.5), np.array([6.8, 6.2, 6.8]) * temporal), contrast.grey


def _ventricles(points: np.ndarray, brain: Brain):
    """Yield name and distance of the ventricles above the tentorium."""
    a, y, z = points
    wide = brain.ventricles
    lateral = _tube(points, LATERAL_VENTRICLE, wide)
    lateral = smooth_union(lateral, _tube(points, OCCIPITAL_HORN, wide), 2.0)
    horn = ellipsoid(points, (5.4, 15, 7.5), np.array([3.6, 13, 8.5]) * wide, basis_along((1, 0, -0.35)))
    lateral = smooth_union(lateral, horn, 2.0)
    lateral = np.minimum(lateral, _tube(points, TEMPORAL_HORN, wide**0.5))
    yield "lateral_ventricle", np.maximum(lateral, 0.6 - a)  # keeps the septum
    slit = (np.sqrt(((y + 11) / 14.5) ** 2 + ((z + 3.5) / 11) ** 2) - 1) * 12
    yield "third_ventricle", np.maximum(a - 1.9 * wide, slit)


def _stem(points: np.ndarray) -> np.ndarray:
    """Signed distance to midbrain, pons, medulla and the visible part of the spinal cord."""
    midbrain = ellipsoid(points, (0, -29.5, -14), (14.5, 10, 11))
    pons = ellipsoid(points, (0, -23, -30), (17, 13, 12))
    tegmentum = _tube(points, MEDULLA, step=4.0)
    return smooth_union(smooth_union(midbrain, pons, 5.0), tegmentum, 5.0)


def cerebellar_hull(points: np.ndarray) -> np.ndarray:
    """Signed distance to the smooth surface around the folia of the cerebellum, from mirrored points."""
    a, y, z = points
    hemisphere = ellipsoid(points, (24, -63, -38.5), (27.5, 29, 27))
    vermis = ellipsoid(points, (0, -60, -31), (18, 24, 27))
    return np.maximum(smooth_union(hemisphere, vermis, 4.0), (z - tentorium(a, y) + 1.5) * np.float32(0.9))


def _draw_cerebellum(canvas: Canvas, box, points: np.ndarray, stem: np.ndarray, contrast: TissueContrast) -> None:
    """Paint the folded cortex, the tree of white matter that starts at the peduncles, and the fourth ventricle."""
    a, y, z = points
    hull = np.maximum(cerebellar_hull(points), 0.7 - stem)
    angle = np.arctan2(z + 37, -43 - y) + 0.004 * a + 0.05 * np.sin(0.16 * a) + 0.06 * np.sin(0.21 * (y + z))
    lobules, folia = np.cos(15 * angle), np.cos(57 * angle + 0.3 * hull)
    fissures = 1.3 * np.clip(-3 * lobules - 2, 0, 1) * np.clip((hull + 9) / 4, 0, 1)
    canvas.paint(hull + fissures, contrast.grey * (0.95 + 0.09 * folia), box, _label("cerebellum_cortex"))
    trunk = ellipsoid(points, (16, -55, -38), (13, 11, 6.5))
    peduncle = _tube(points, ((17, -52, -38, 6.0), (14, -38, -32, 6.5), (11, -30, -30, 6.5)))
    branches = (0.4 - lobules - 0.08 * (hull + 12)) * np.float32(2.4)  # thinner towards the surface
    white = smooth_union(np.maximum(branches, hull + 5.0 + 0.06 * a), trunk, 3.0)
    white = np.minimum(np.maximum(white, hull + 3.0), peduncle)
    canvas.paint(np.maximum(white, 0.5 - stem), 0.98 * contrast.white, box, _label("cerebellum_white_matter"))
    fourth = ellipsoid(points, (0, -44, -34), (6.5, 6, 12))
    canvas.paint(fourth, contrast.fluid, box, _label("fourth_ventricle"))
