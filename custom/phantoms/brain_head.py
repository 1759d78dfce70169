# SPDX-License-Identifier: Apache-2.0
"""The head around the brain in a T1-weighted image: fluid, skull with marrow, scalp, eyes, face and neck."""

from __future__ import annotations

import numpy as np

from ..labels import BRAIN_LABELS
from .brain_anatomy import LOWEST, TissueContrast, cerebellar_hull
from .brain_cortex import mirrored
from .canvas import Canvas
from .shapes import ellipsoid, smooth_union

BONE, AIR = 0.07, 0.0


def draw_head(
    canvas: Canvas, contrast: TissueContrast, hull: np.ndarray, skull: float, scalp: float, texture: np.ndarray
) -> None:
    """Paint the head, the skull and the fluid inside the dura, and label the fluid. `draw_brain` paints over it.

    Args:
        canvas: grid, image and labels; painted in place.
        contrast: intensities of the subject's tissues.
        hull: distance to the cerebrum on the whole grid.
        skull: thickness of the skull in mm.
        scalp: thickness of the scalp in mm.
        texture: noise of unit variance on the grid.
    """
    points = mirrored(canvas.points)
    a, y, z = points
    dura = _dura(points, hull)
    face = ellipsoid(points, (0, 26, -54), (62, 60, 60))
    neck = (np.sqrt((a / 54) ** 2 + ((y + 35) / 58) ** 2) - 1) * 56
    neck = np.maximum(neck, z + 45)
    nose = ellipsoid(points, (0, 86, -48), (11, 16, 18))
    head = smooth_union(dura - (skull + scalp), smooth_union(smooth_union(face, nose, 8.0), neck, 12.0), 14.0)
    canvas.image[...] = AIR
    canvas.paint(head, contrast.muscle * 0.9)
    canvas.paint(head + 1.5, contrast.fat * (0.9 + 0.08 * texture))
    below = dura - skull - 1.0  # muscle starts below the vault of the skull
    canvas.paint(np.maximum(head + 5.5 + 0.8 * texture, -below), contrast.muscle * (1 + 0.12 * texture))
    fat = contrast.fat * 0.8
    planes = np.maximum(np.abs(texture) * 3 - 0.7, np.maximum(head + 6, 3 - below))
    canvas.paint(planes, fat, opacity=0.6)
    temporalis = np.maximum(ellipsoid(points, (70, 18, -16), (14, 34, 38)), head + 4)
    canvas.paint(temporalis, contrast.muscle * (1 + 0.1 * texture))
    _draw_face(canvas, contrast, texture)
    canvas.paint(dura - skull, BONE)
    marrow = np.abs(dura - 0.52 * skull) - 0.2 * skull + 0.5 * texture
    canvas.paint(np.maximum(marrow, np.abs(texture) - 2.0), contrast.marrow, opacity=0.85)
    canvas.paint(dura, contrast.fluid)
    canvas.label[(dura < 0) & (z > LOWEST)] = BRAIN_LABELS["cerebrospinal_fluid"]


def _dura(points: np.ndarray, hull: np.ndarray) -> np.ndarray:
    """Signed distance to the inner surface of the skull: the hull of the brain with the cisterns, slightly enlarged."""
    brain = smooth_union(hull, cerebellar_hull(points), 8.0)
    stem = ellipsoid(points, (0, -30, -32), (18, 13, 34))
    tent = ellipsoid(points, (0, -42, -6), (24, 13, 14))  # the cisterns between splenium, midbrain and cerebellum
    brain = smooth_union(brain, np.minimum(stem, tent), 6.0)
    canal = np.maximum(np.hypot(points[0], points[1] + 45) - 11, points[2] + 55)
    cistern = ellipsoid(points, (0, -4, -17), (12, 11, 8))
    return smooth_union(np.minimum(brain, cistern), canal, 6.0) - np.float32(1.4)


def _draw_face(canvas: Canvas, contrast: TissueContrast, texture: np.ndarray) -> None:
    """Paint the orbits with eyes and muscles, the airways, and the bone of the skull base."""
    box = canvas.box((-70, -40, -112), (70, 100, -10))
    points, texture = mirrored(canvas.points[(slice(None), *box)]), texture[box]
    orbit = ellipsoid(points, (29, 40, -37), (18, 26, 15))
    canvas.paint(orbit, 0.85 * contrast.fat, box)
    for shift in ((0, 10), (9, 0), (-9, 0), (0, -10)):  # four straight muscles
        muscle = ellipsoid(points, (27 + shift[0], 38, -37 + shift[1]), (2.2, 17, 2.2))
        canvas.paint(muscle, contrast.muscle, box)
    eye = ellipsoid(points, (31, 56, -37), (12, 12, 12))
    canvas.paint(eye, contrast.muscle, box)
    canvas.paint(eye + 1.8, 1.1 * contrast.fluid, box)
    airways = ellipsoid(points, (0, 50, -50), (14, 34, 20))
    sinus = ellipsoid(points, (27, 46, -66), (12, 15, 13))
    sphenoid = ellipsoid(points, (0, 16, -32), (13, 13, 9))
    pharynx = ellipsoid(points, (0, 8, -78), (10, 8, 30))
    for cavity in (airways, sinus, sphenoid, pharynx):
        canvas.paint(cavity, BONE + 0.1 * np.maximum(texture, 0), box)
    turbinate = np.maximum(np.abs(np.abs(points[0] - 7) - 2.5) - 1.3, airways + 3)
    canvas.paint(turbinate, contrast.muscle, box, opacity=0.8)
    petrous = ellipsoid(points, (47, -22, -46), (20, 12, 10))
    canvas.paint(petrous, BONE + 0.2 * np.maximum(texture - 0.3, 0), box)
    clivus = ellipsoid(points, (0, -6, -42), (11, 6, 14))
    canvas.paint(clivus, contrast.marrow, box)
