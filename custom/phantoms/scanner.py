# SPDX-License-Identifier: Apache-2.0
"""Effects of the CT scanner: table, blur, noise, streaks, and the position and axis order of the volumes."""

from __future__ import annotations

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from scipy.ndimage import gaussian_filter

from .canvas import Canvas
from .contrast import Contrast
from .shapes import smooth_noise
from .thorax import Thorax

ORIENTATIONS = ("RAS", "RAS", "LPS", "LAS", "RPI")  # axis orders and directions of files; one is drawn for each subject


def draw_table(canvas: Canvas, thorax: Thorax) -> None:
    """Paint the curved top of the patient table if it is in the field of view."""
    x, y, _ = canvas.points
    curve = y - (thorax.back - thorax.muscle - 34 - 1.4 * thorax.fat) - 0.0006 * x**2
    outside = canvas.image < -700
    table = np.abs(np.abs(curve + 12) - 10) - 1.0
    value = canvas.image + canvas.occupancy(table) * (-350 - canvas.image)
    lowest = curve < 0
    canvas.image[outside & lowest] = value[outside & lowest]


def scan(canvas: Canvas, contrast: Contrast, rng: np.random.Generator) -> np.ndarray:
    """Add a little blur, correlated noise and, in half of the subjects, weak streaks; int16 HU."""
    image = gaussian_filter(canvas.image, 0.45)
    noise = smooth_noise(rng, canvas.shape, 0.65)
    x, y, z = canvas.points
    deep = np.exp(-((x / 130) ** 2) - ((y + 20) / 110) ** 2)
    image += noise * np.float32(rng.uniform(10, 35)) * (0.55 + 0.55 * deep)
    strength = 0.06 * contrast.vena_cava * rng.uniform(0, 1) * (rng.random() < 0.5)
    profile = gaussian_filter(rng.standard_normal(720), 2.0, mode="wrap").astype(np.float32) * np.float32(2.6)
    across, along = x - 20, y - 2  # streaks start at the dense blood of the superior vena cava
    angle = (np.arctan2(along, across) / (2 * np.pi) * 720).astype(np.int32) % 720
    reach = np.exp(-np.hypot(across, along) / 35) / (1 + np.exp((30 - z) / 6))
    image += np.float32(strength) * profile[angle] * reach
    return np.clip(np.round(image), -1024, 3000).astype(np.int16)


def orient(rng: np.random.Generator, canvas: Canvas, *volumes: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Draw a position in the scanner and one of several axis orders and directions, and apply them to the volumes.

    Returns:
        the volumes in the new axis order, and their affine matrix (4, 4) from voxel indices to RAS millimetres.
    """
    origin = -canvas.middle * canvas.spacing + rng.uniform([-15, -190, -900], [15, -120, 60])
    affine = np.diag([*canvas.spacing, 1.0])
    affine[:3, 3] = origin
    codes = ORIENTATIONS[rng.integers(len(ORIENTATIONS))]
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    turned = [np.ascontiguousarray(apply_orientation(volume, turn)) for volume in volumes]
    return turned, affine @ inv_ornt_aff(turn, canvas.shape)
