# SPDX-License-Identifier: Apache-2.0
"""Grows and paints the branching trees of lung vessels and bronchi, from the hila into the lungs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .canvas import Canvas
from .contrast import Contrast
from .thorax import Thorax

# directions from the hilum of the right lung to its segments
LOBES = np.array([[0.6, 0.5, 0.9], [0.6, -0.5, 0.9], [1.0, 0.5, 0.1], [1.0, -0.4, 0.2], [0.7, 0.7, -0.6],
                  [0.8, -0.6, -0.8], [0.5, -0.7, -0.9], [0.6, 0.1, -1.0], [0.3, 0.9, 0.2]])  # fmt: skip


def grow_tree(
    rng: np.random.Generator,
    start,
    towards,
    radius: float,
    length: float,
    spread: float,
    levels: int,
    inside: Callable[[np.ndarray], np.ndarray],
    step: float = 1.2,
) -> np.ndarray:
    """Grow a tree whose branches bend a little, become thinner and split in two.

    Args:
        rng: generator of the shape.
        start: (3,) position of the root in mm.
        towards: (m, 3) directions of the first branches.
        radius: radius of the first branches in mm; it decreases with each generation.
        length: length of the first branches in mm; it decreases with each generation.
        spread: mean angle between a branch and its two successors in degrees.
        levels: number of generations.
        inside: function of points (3, n) that is true where branches may end; a branch that ends elsewhere is removed.
        step: largest distance between samples in mm.

    Returns:
        samples (n, 4) of the tree: x, y, z, radius in mm.
    """
    heading = np.asarray(towards, dtype=np.float64)
    heading = heading / np.linalg.norm(heading, axis=1, keepdims=True)
    origin = np.tile(np.asarray(start, dtype=np.float64), (len(heading), 1))
    width, extent = (value * rng.uniform(0.85, 1.15, len(heading)) for value in (radius, length))
    samples = []
    for _ in range(levels):
        along = np.linspace(0, 1, max(2, int(np.ceil(extent.max() / step))))[None, :, None]
        bend = rng.normal(0, 0.12, size=heading.shape) * extent[:, None]
        course = origin[:, None] + along * (heading * extent[:, None])[:, None] + along**2 * bend[:, None]
        taper = width[:, None, None] * (1 - 0.18 * along)
        ends_inside = inside(course[:, -1].T)
        samples.append(np.concatenate([course, taper], axis=2)[ends_inside].reshape(-1, 4))
        origin, width, extent = (np.repeat(value[ends_inside], 2, axis=0) for value in (course[:, -1], width, extent))
        heading = (course[:, -1] - course[:, -2])[ends_inside]
        heading /= np.linalg.norm(heading, axis=1, keepdims=True)
        aside = np.cross(heading, rng.normal(size=heading.shape))
        aside /= np.linalg.norm(aside, axis=1, keepdims=True)
        angle = np.deg2rad(spread * rng.uniform(0.4, 1.6, size=(len(heading), 2, 1))) * np.array([[[1.0], [-1.0]]])
        heading = (np.cos(angle) * heading[:, None] + np.sin(angle) * aside[:, None]).reshape(-1, 3)
        width = width * rng.uniform(0.68, 0.85, len(width))
        extent = extent * rng.uniform(0.7, 1.0, len(extent))
        if not len(width):
            break
    return np.vstack(samples)


def draw_lungs(canvas: Canvas, rng: np.random.Generator, thorax: Thorax, contrast: Contrast) -> None:
    """Paint the arteries, veins and bronchi of both lungs."""

    def inside(points):
        return (thorax.cavity(points) < -3) & (thorax.diaphragm(points) > 2)

    for side in (1, -1):
        mirror = np.array([side, 1, 1])
        artery_root = np.array([44.0, -28, 40]) if side > 0 else np.array([-46.0, -40, 46])
        vein_root = np.array([46.0, -34, 16]) if side > 0 else np.array([-42.0, -40, 20])
        for root, blood in ((artery_root, contrast.pulmonary), (vein_root, contrast.left)):
            towards = (LOBES + rng.normal(0, 0.2, size=LOBES.shape)) * mirror
            tree = grow_tree(rng, root, towards, 4.3, 26, 22, 7, inside)
            tree = tree[tree[:, 3] > 0.6]
            canvas.paint(canvas.sweep(tree, reach=1.3) + 0.2, 0.9 * blood - 30)
        towards = (LOBES[::2] + rng.normal(0, 0.2, size=LOBES[::2].shape)) * mirror
        bronchi = canvas.sweep(grow_tree(rng, artery_root - [0, 8, 8], towards, 3.6, 20, 24, 3, inside), reach=2.5)
        canvas.paint(bronchi - 1.2, -50.0, opacity=0.8)
        canvas.paint(bronchi, -950.0)
