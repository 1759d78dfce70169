# SPDX-License-Identifier: Apache-2.0
"""Draws a T1-weighted MR of a head with 28 labelled brain structures from one seed. It uses no patient data."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt, find_objects, gaussian_filter
from scipy.ndimage import label as connected_components

from ..labels import BRAIN_LABELS
from .brain_anatomy import Brain, TissueContrast, draw_brain
from .brain_cortex import cerebral_hull, mirrored
from .brain_head import draw_head
from .canvas import Canvas, checked_spacing, random_warp
from .scanner import orient
from .shapes import random_rotation, smooth_noise

IN_PIECES = {BRAIN_LABELS[name] for name in ("cerebrospinal_fluid", "left_cerebral_cortex", "right_cerebral_cortex")}


def make_brain_subject(seed: int, spacing=None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one head.

    Args:
        seed: the same seed gives the same voxels.
        spacing: voxel size in mm along x, y, z; None draws it from the seed (1.6 to 2.0 mm).

    Returns:
        the image (int16, arbitrary units), the label map (uint16, values of BRAIN_LABELS) and the affine matrix
        (4, 4) from voxel indices to RAS millimetres.

    Raises:
        ValueError: if the spacing is not three positive numbers.
    """
    shape_rng, grid_rng, texture_rng, scan_rng = (
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(4)
    )
    brain, contrast = Brain.draw(shape_rng), TissueContrast.draw(shape_rng)
    skull, scalp = shape_rng.uniform(5.0, 7.5), shape_rng.uniform(4.5, 8.0)
    canvas = _make_canvas(grid_rng, spacing)
    texture = smooth_noise(texture_rng, canvas.shape, 3.0 / canvas.spacing)
    hull = cerebral_hull(mirrored(canvas.points))
    draw_head(canvas, contrast, hull, skull, scalp, texture)
    draw_brain(canvas, brain, contrast, hull, shape_rng)
    canvas.image *= 1 + np.float32(0.02) * texture
    label = _whole_structures(_with_sides(canvas))
    volumes, affine = orient(grid_rng, canvas, _scan(canvas, scan_rng), label)
    return *volumes, affine


def _make_canvas(rng: np.random.Generator, spacing) -> Canvas:
    size = rng.uniform(0.95, 1.06) * rng.uniform(0.97, 1.03, size=3)
    rotation = random_rotation(rng, 8.0)
    center = np.array([0.0, -16.0, -4.0]) + rng.uniform([-4, -4, -4], [4, 4, 4])
    drawn = rng.uniform(1.6, 2.0) * rng.uniform(0.97, 1.03, size=3)
    spacing = checked_spacing(drawn if spacing is None else spacing)
    extent = np.array([176, 232, 186]) * size + rng.uniform(4, 16, size=3)
    return Canvas.draw(rng, extent, spacing, center, rotation, size, warps=((70.0, 11.0), (32.0, 4.5)))


def _with_sides(canvas: Canvas) -> np.ndarray:
    """The label map with the values of the right side where x > 0. Both sides were drawn with those of the left."""
    right_of = np.arange(max(BRAIN_LABELS.values()) + 1, dtype=np.uint16)
    for name, value in BRAIN_LABELS.items():
        if name.startswith("left_"):
            right_of[value] = BRAIN_LABELS[name.replace("left_", "right_")]
    return np.where(canvas.points[0] > 0, right_of[canvas.label], canvas.label)


def _whole_structures(label: np.ndarray, rounds: int = 3) -> np.ndarray:
    """Keep the largest connected piece of every structure, and give the smaller pieces to the nearest other structure.

    Cortex and fluid may consist of several pieces. A small piece that after `rounds` rounds still touches no main
    piece of a neighbour becomes fluid.
    """
    for last in [False] * rounds + [True]:
        slivers = np.zeros(label.shape, dtype=bool)
        for value, part in enumerate(find_objects(label), start=1):
            if part is None or value in IN_PIECES:
                continue
            mask = label[part] == value
            pieces, count = connected_components(mask)
            if count > 1:
                sizes = np.bincount(pieces.reshape(-1))[1:]
                slivers[part] |= mask & (pieces != sizes.argmax() + 1)
        if not slivers.any():
            break
        if last:
            label[slivers] = BRAIN_LABELS["cerebrospinal_fluid"]
            break
        # a box around all slivers is enough: fluid is always near
        where = tuple(slice(max(int(i.min()) - 3, 0), int(i.max()) + 4) for i in np.nonzero(slivers))
        cut, loose = label[where], slivers[where]
        nearest = distance_transform_edt(loose | (cut == 0), return_distances=False, return_indices=True)
        cut[loose] = cut[tuple(nearest)][loose]
    return label


def _scan(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Add the effects of the scanner: blur, a smooth bias field, Rician noise and an arbitrary scale; int16."""
    image = gaussian_filter(canvas.image, rng.uniform(0.3, 0.5))
    field = random_warp(rng, canvas.shape, canvas.spacing, 90.0, 1.0)[0]
    image *= np.exp(np.float32(rng.uniform(0.15, 0.5)) * field)
    level = rng.uniform(0.012, 0.04)
    real, imaginary = (np.float32(level) * rng.standard_normal(canvas.shape, dtype=np.float32) for _ in range(2))
    image = np.hypot(image + real, imaginary) * np.float32(rng.uniform(200, 1500))
    return np.clip(np.round(image), 0, 32767).astype(np.int16)
