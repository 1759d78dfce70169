# SPDX-License-Identifier: Apache-2.0
"""The space between the lungs without the heart: fat, pericardium, airways, oesophagus and descending aorta."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas
from .contrast import Contrast
from .draw_heart import pericardium
from .heart import Heart
from .shapes import smooth_union, spline
from .thorax import Thorax


def draw_mediastinum(
    canvas: Canvas, heart: Heart, contrast: Contrast, cavity: np.ndarray, above: np.ndarray, coarse: np.ndarray
) -> None:
    """Paint the fat between the lungs and around the vessels, and the pericardium.

    Args:
        canvas: grid, image and labels; painted in place.
        heart: shape of the subject's heart.
        contrast: HU of the subject's blood and tissues.
        cavity: signed distance to the rib cage in mm, whole grid.
        above: height above the diaphragm in mm, whole grid.
        coarse: noise of unit variance, whole grid.
    """
    x, y, _ = canvas.points
    paths = (heart.aortic_path, heart.trunk_path, heart.right_pa_path[:-1], heart.left_pa_path[:-1])
    vessels = [heart.to_atlas(spline(path, 5.0)) for path in (*paths, heart.vena_cava_path)]
    middle = spline([[0, -44, 140, 13], [-2, -46, 60, 17], [-4, -54, 10, 14], [-8, -52, -60, 14]], 5.0)
    carina = spline([[30, -40, 42, 8], [1, -39, 60, 13], [-30, -44, 42, 8]], 5.0)
    upper = spline([[4, -6, 74, 10], [3, -8, 100, 17], [2, -8, 140, 18]], 5.0)
    hull = canvas.sweep(np.vstack([*vessels, middle, carina, upper, _descending_aorta(heart)[::3]]), reach=22) - 3.5
    box, sac = pericardium(canvas, heart)
    hull[box] = smooth_union(hull[box], sac, 14)
    front = np.abs(x + 4) - 3 - 0.16 * np.maximum(y - 25, 0)
    hull = smooth_union(hull, np.maximum(front, np.maximum(20 - y, -above)), 14)
    hull = np.maximum(hull, cavity - 1)
    canvas.paint(hull + 0.8 * coarse, contrast.fat + 10 * coarse)
    canvas.paint(sac - 0.9, 10.0, box)
    canvas.paint(sac + 0.9, contrast.fat + 8 * coarse[box], box)


def draw_midline(canvas: Canvas, heart: Heart, thorax: Thorax, contrast: Contrast) -> None:
    """Paint airways, oesophagus, descending aorta and the arteries that start at the aortic arch."""
    oesophagus = [[-4, -50, 130, 5.5], [-5, -53, 60, 5.5], [-7, -56, 10, 6], [-11, -47, -40, 6.5], [-24, -30, -70, 8]]
    oesophagus = canvas.sweep(spline(oesophagus, 1.5))
    canvas.paint(oesophagus, 42.0)
    canvas.paint(oesophagus + 4.5, -150.0)
    descending = canvas.sweep(_descending_aorta(heart))
    arch_wall = canvas.sweep(heart.to_atlas(spline(heart.aortic_path[-4:], 2.0)))
    canvas.paint(np.minimum(arch_wall, descending) - 1.3, 60.0)
    canvas.paint(descending, contrast.left * 0.97)
    arch = heart.to_atlas(heart.aortic_path[-3:])
    branches = []
    for share, lean, radius in ((0.15, 16, 6.5), (0.5, 2, 4.5), (0.85, -10, 5.0)):
        root = arch[0, :3] * (1 - share) + arch[2, :3] * share + [0, 0, 3]
        way = [root, root + [lean * 0.5, 3, 22], root + [lean, 3, 60]]
        branches.append(spline(np.column_stack([way, np.full(3, radius)]), 1.5))
    branches = canvas.sweep(np.vstack(branches))
    canvas.paint(branches - 1, 50.0)
    canvas.paint(branches, contrast.left)
    airways = canvas.sweep(thorax.airways())
    canvas.paint(airways - 1.6, 20.0)
    canvas.paint(airways, -990.0)


def _descending_aorta(heart: Heart) -> np.ndarray:
    """Samples (n, 4) of the descending aorta in atlas mm, from the end of the arch down the left side of the spine."""
    top = heart.to_atlas(heart.aortic_path[-2:])
    low = [[-29, -63, 46, 11.5], [-28, -62, 15, 11.2], [-24, -59, -15, 11], [-17, -53, -48, 10.5], [-9, -49, -100, 10]]
    return spline(np.vstack([top, np.asarray(low, float)]), 1.5)
