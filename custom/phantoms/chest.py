# SPDX-License-Identifier: Apache-2.0
"""Draws a chest CT of both lungs from one seed, with or without COVID-like opacities. It uses no patient data."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import label as connected_components

from .canvas import Canvas, checked_spacing
from .chest_wall import Chest
from .contrast import Contrast
from .draw_heart import draw_heart
from .heart import Heart
from .lungs import draw_lungs
from .mediastinum import draw_mediastinum, draw_midline
from .opacities import LungGeometry, draw_mosaic, draw_nodules, fill, opacities, settle, with_values_of
from .scanner import draw_table, orient, scan
from .shapes import random_rotation, smooth_noise

CHEST_LABELS = {"lungs": 1}
SEVERE = 0.5  # a patient of at least this severity counts as severe (STOIC: intubation or death)


class ChestSubject(NamedTuple):
    """The volumes of one subject, on one grid."""

    image: np.ndarray  # int16 HU
    mask: np.ndarray  # uint16 mask of both lungs; 1 is lung, including opacities
    affine: np.ndarray  # (4, 4) matrix from voxel indices to RAS millimetres


def severity(seed: int) -> float:
    """Severity of the disease of a subject with this seed, from 0 (a few faint patches) to 1; needs no drawing."""
    return float(np.random.default_rng([seed, 1]).beta(1.5, 1.3))


def make_chest_subject(seed: int, diseased: bool, spacing=None) -> ChestSubject:
    """Draw one chest. The anatomy depends on the seed only, not on the disease.

    Intensity statistics of the whole lung do not show the disease: a patient has dense patches (`opacities`), and a
    healthy subject has the same values at the back of the lungs (`settle`). Both have the same histogram before the
    scanner adds blur and noise.

    Args:
        seed: the same seed gives the same voxels.
        diseased: whether the lungs have ground-glass opacities and, more often at higher severity, consolidations.
        spacing: voxel size in mm along x, y, z; None draws it from the seed (3.0 to 3.4 in plane, 3.0 to 3.5 along z).

    Raises:
        ValueError: if the spacing is not three positive numbers.
    """
    shape_rng, grid_rng, texture_rng, scan_rng, lesion_rng = (
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(5)
    )
    heart = Heart(shape_rng)
    chest = Chest(shape_rng, heart)
    contrast = _draw_contrast(shape_rng)
    canvas = _make_canvas(grid_rng, spacing)
    fine = smooth_noise(texture_rng, canvas.shape, 3.0 / canvas.spacing)
    coarse = smooth_noise(texture_rng, canvas.shape, 8.0 / canvas.spacing)

    cavity = chest.draw_wall(canvas, contrast, fine, coarse)
    draw_lungs(canvas, texture_rng, chest, contrast)
    lung_image = canvas.image.copy()
    above = chest.draw_abdomen(canvas, contrast, cavity, coarse)
    draw_mediastinum(canvas, heart, contrast, cavity, above, coarse)
    chest.draw_spine(canvas, contrast, fine)
    draw_midline(canvas, heart, chest, contrast)
    draw_heart(canvas, heart, contrast, fine, coarse)
    # lung: the part of the cavity over which no organ was drawn
    lung = canvas.occupancy(cavity) * (np.abs(canvas.image - lung_image) < 60)
    draw_table(canvas, chest)

    lung *= _without_specks(lung > 0.5)
    geometry = LungGeometry(canvas.points, lung > 0.5, canvas.spacing)
    draw_mosaic(canvas, lesion_rng, lung)
    draw_nodules(canvas, lesion_rng, geometry, lung)
    share = opacities(lesion_rng, geometry, fine, coarse, severity(seed))
    patient = fill(canvas.image, share, lung)
    if diseased:
        canvas.image = patient
    else:
        healthy = fill(canvas.image, settle(share, lesion_rng, geometry), lung)
        canvas.image[geometry.mask] = with_values_of(patient[geometry.mask], healthy[geometry.mask])
    image = scan(canvas, contrast, scan_rng)
    volumes, affine = orient(grid_rng, canvas, image, (lung > 0.5).astype(np.uint16))
    return ChestSubject(*volumes, affine)


def _draw_contrast(rng: np.random.Generator) -> Contrast:
    """Draw a subject without contrast agent or, one in four, with a little; lungs from deep to shallow inspiration."""
    blood = rng.uniform(32, 52) + (rng.uniform(20, 130) if rng.random() < 0.25 else 0.0)
    return Contrast(
        left=blood,
        right=blood + rng.uniform(-8, 8),
        pulmonary=blood + rng.uniform(-6, 6),
        vena_cava=blood * rng.uniform(1.0, 1.3),
        myocardium=42 + 0.35 * (blood - 40),
        liver=rng.uniform(45, 70) + 0.2 * (blood - 40),
        spleen=rng.uniform(42, 55) + 0.4 * (blood - 40),
        fat=rng.uniform(-112, -88),
        lung=rng.uniform(-890, -770),
        muscle=rng.uniform(45, 62),
    )


def _make_canvas(rng: np.random.Generator, spacing) -> Canvas:
    size = rng.uniform(0.86, 1.02) * rng.uniform(0.95, 1.05, size=3)
    rotation = random_rotation(rng, 6.0)
    center = np.array([-2.0, -16.0, 26.0]) + rng.uniform([-5, -5, -6], [5, 5, 6])
    in_plane, between = rng.uniform(3.0, 3.4), rng.uniform(3.0, 3.5)
    spacing = checked_spacing([in_plane, in_plane, between] if spacing is None else spacing)
    extent = np.array([330, 250, 270]) * size + rng.uniform(0, 15, size=3)
    return Canvas.draw(rng, extent, spacing, center, rotation, size)


def _without_specks(mask: np.ndarray, share: float = 0.05) -> np.ndarray:
    """The connected pieces of `mask` that have at least `share` of its voxels; specks are removed."""
    pieces, _ = connected_components(mask)
    sizes = np.bincount(pieces.reshape(-1))
    large = sizes >= share * mask.sum()
    large[0] = False
    return large[pieces]
