# SPDX-License-Identifier: Apache-2.0
"""Draws a contrast CT of a chest from one seed: the cardiac CT angiography phantom. It uses no patient data."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import label as connected_components

from ..labels import CARDIAC_LABELS
from .canvas import Canvas, checked_spacing
from .contrast import Contrast
from .draw_heart import draw_heart
from .heart import Heart
from .lungs import draw_lungs
from .mediastinum import draw_mediastinum, draw_midline
from .scanner import draw_table, orient, scan
from .shapes import random_rotation, smooth_noise
from .thorax import Thorax


class CardiacSubject(NamedTuple):
    """The volumes of one subject, on one grid."""

    image: np.ndarray  # int16 HU
    label: np.ndarray  # uint16 label map with the values of MM-WHS
    coronary: np.ndarray  # bool mask of the coronary arteries: the voxels of which they fill more than a fifth
    affine: np.ndarray  # (4, 4) matrix from voxel indices to RAS millimetres


def make_cardiac_subject(seed: int, spacing=None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, label map and affine matrix of one subject, see `CardiacSubject`.

    Args:
        seed: the same seed gives the same voxels.
        spacing: voxel size in mm along x, y, z; None draws it from the seed (1.8 to 2.2 in plane, 2.0 to 2.5 along z).

    Raises:
        ValueError: if the spacing is not three positive numbers.
    """
    subject = draw_cardiac_subject(seed, spacing)
    return subject.image, subject.label, subject.affine


def draw_cardiac_subject(seed: int, spacing=None) -> CardiacSubject:
    """Draw one subject with its coronary arteries. The arguments are those of `make_cardiac_subject`."""
    shape_rng, grid_rng, texture_rng, scan_rng = (
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(4)
    )
    heart = Heart(shape_rng)
    thorax = Thorax(shape_rng, heart_bottom=heart.lowest_point())
    contrast = Contrast.draw(shape_rng)
    canvas = _make_canvas(grid_rng, spacing)
    fine = smooth_noise(texture_rng, canvas.shape, 2.5 / canvas.spacing)
    coarse = smooth_noise(texture_rng, canvas.shape, 7.0 / canvas.spacing)

    cavity = thorax.draw_wall(canvas, contrast, fine, coarse)
    draw_lungs(canvas, texture_rng, thorax, contrast)
    above = thorax.draw_abdomen(canvas, contrast, cavity, coarse)
    draw_mediastinum(canvas, heart, contrast, cavity, above, coarse)
    thorax.draw_spine(canvas, contrast, fine)
    draw_midline(canvas, heart, thorax, contrast)
    coronary = draw_heart(canvas, heart, contrast, fine, coarse)
    draw_table(canvas, thorax)

    image = scan(canvas, contrast, scan_rng)
    label = _largest_components(canvas.label)
    volumes, affine = orient(grid_rng, canvas, image, label, canvas.occupancy(coronary) > 0.2)
    return CardiacSubject(*volumes, affine)


def _make_canvas(rng: np.random.Generator, spacing) -> Canvas:
    size = rng.uniform(0.9, 1.1) * rng.uniform(0.97, 1.03, size=3)
    rotation = random_rotation(rng, 6.0)
    center = np.array([-6.0, -16.0, 8.0]) + rng.uniform([-5, -5, -5], [5, 5, 5])
    in_plane, between = rng.uniform(1.8, 2.2), rng.uniform(2.0, 2.5)
    spacing = checked_spacing([in_plane, in_plane, between] if spacing is None else spacing)
    extent = rng.uniform([265, 215, 152], [300, 240, 170])
    return Canvas.draw(rng, extent, spacing, center, rotation, size)


def _largest_components(label: np.ndarray) -> np.ndarray:
    """Keep the largest connected piece of every structure; smaller pieces become background."""
    for value in CARDIAC_LABELS.values():
        mask = label == value
        pieces, count = connected_components(mask)
        if count > 1:
            sizes = np.bincount(pieces.reshape(-1))[1:]
            label[mask & (pieces != sizes.argmax() + 1)] = 0
    return label
