# SPDX-License-Identifier: Apache-2.0
"""Paints a `Heart` onto a `Canvas`: walls, chambers, great vessels and coronary arteries."""

from __future__ import annotations

import numpy as np

from ..labels import CARDIAC_LABELS
from .canvas import FAR, Canvas
from .contrast import Contrast
from .heart import PIVOT, Heart
from .shapes import (
    basis_along,
    ellipsoid,
    half_space,
    intersection,
    smooth_intersection,
    smooth_union,
    spline,
    subtract,
)

REACH = 88.0  # mm; half the side of a box around the pivot that contains every heart


def heart_box(canvas: Canvas, heart: Heart) -> tuple[slice, slice, slice]:
    """Slices of the part of the grid that contains the heart."""
    center = PIVOT + heart.shift
    return canvas.box(center - REACH, center + REACH)


def pericardium(canvas: Canvas, heart: Heart) -> tuple[tuple[slice, slice, slice], np.ndarray]:
    """Box of the heart, and in it the signed distance (atlas mm) to the sac around chambers and epicardial fat."""
    box = heart_box(canvas, heart)
    points = heart.from_atlas(canvas.points[(slice(None), *box)])
    sac = smooth_union(heart.left_ventricle_outer(points), heart.right_ventricle(points) - 3, 22)
    sac = smooth_union(sac, heart.right_atrium(points) - 2, 22)
    sac = smooth_union(sac, heart.left_atrium(points) + 1, 16)
    return box, (sac - heart.fat - 1.0) * np.float32(heart.size)


def draw_heart(canvas: Canvas, heart: Heart, contrast: Contrast, fine: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Paint the heart and its labels. The pericardium (`draw_mediastinum`) must be on the canvas already.

    Args:
        canvas: grid, image and labels; painted in place.
        heart: shape of the subject's heart.
        contrast: HU of the subject's blood and tissues.
        fine: noise of unit variance on the whole grid, for the trabeculae.
        coarse: noise of unit variance on the whole grid, for the mixing of contrast agent with blood.

    Returns:
        the distance (atlas mm, whole grid) to the coronary arteries, FAR beyond 4 mm.
    """
    box = heart_box(canvas, heart)
    points = heart.from_atlas(canvas.points[(slice(None), *box)])
    size = np.float32(heart.size)
    rough, mixing = fine[box], coarse[box]
    label = CARDIAC_LABELS

    def paint(distance, value, name=None, opacity=1.0):
        canvas.paint(distance * size, value, box, None if name is None else label[name], opacity)

    def tube(path, step=2.0):
        return canvas.sweep(heart.to_atlas(spline(path, step)))[box] / size

    mitral = heart.mitral_plane(points)
    outer = heart.left_ventricle_outer(points)
    inner = heart.left_ventricle_inner(points)
    right_ventricle = heart.right_ventricle(points)
    cavity = heart.right_ventricle_cavity(points)
    right_atrium = heart.right_atrium(points)
    left_atrium = heart.left_atrium(points)
    aortic_plane = half_space(points, heart.annulus, heart.aortic_normal)
    pulmonic_plane = half_space(points, heart.pulmonic, heart.pulmonic_normal)

    # Walls first, then blood: a later shape hides an earlier one.
    wall = contrast.myocardium - 15
    paint(right_ventricle - 3, wall)
    paint(right_atrium - 2, wall)
    paint(left_atrium - 2, wall)

    right_blood = contrast.right * (1 + 0.10 * mixing + 0.05 * rough)
    lower_cava = tube(heart.lower_cava_path)
    paint(lower_cava - 1, wall)
    paint(lower_cava, 0.5 * contrast.right + 60)
    upper_cava = tube(heart.vena_cava_path)
    paint(upper_cava - 1, wall)
    paint(upper_cava, contrast.vena_cava * (1 + 0.08 * mixing))

    right_atrium = subtract(right_atrium, left_atrium - 2)
    right_atrium = subtract(right_atrium, smooth_intersection(outer, mitral - 6, 3))
    paint(right_atrium, contrast.right * (1 + 0.16 * mixing + 0.06 * rough), "right_atrium")

    trunk = tube(heart.trunk_path)
    branches = np.minimum(tube(heart.right_pa_path), tube(heart.left_pa_path))
    pulmonary = smooth_union(intersection(trunk, -pulmonic_plane), branches, 3)
    paint(pulmonary - 1.2, wall)
    paint(pulmonary, contrast.pulmonary * (1 + 0.03 * mixing), "pulmonary_artery")

    vein_samples = [heart.to_atlas(spline(path, 1.5)) for path in heart.vein_paths]
    veins = canvas.sweep(np.vstack(vein_samples))[box] / size
    paint(veins - 1, wall)
    paint(veins, contrast.left)
    roots = canvas.sweep(np.vstack([_first(samples, heart.vein_root) for samples in vein_samples]))[box]
    ventricle_below_base = smooth_intersection(outer, mitral, 3)
    roots = subtract(intersection(roots / size, left_atrium - 14), ventricle_below_base - 2)
    paint(smooth_union(left_atrium, roots, 4), contrast.left * (1 + 0.02 * mixing), "left_atrium")

    paint(cavity + np.maximum(rough, 0), right_blood)  # trabeculae: rough in the image, smooth in the label map
    canvas.label[box][cavity < 0] = label["right_ventricle"]

    muscle = smooth_intersection(outer, mitral - 1, 6)
    paint(muscle, contrast.myocardium * (1 + 0.04 * rough), "myocardium")

    aorta = intersection(tube(heart.aortic_path), -aortic_plane)
    paint(intersection(tube(heart.aortic_path[:-2]), -aortic_plane) - 1.3, wall)
    paint(aorta, contrast.left, "aorta")

    outflow = intersection(tube(heart.outflow_path), aortic_plane)
    blood = smooth_union(intersection(inner, mitral), outflow, 5)
    paint(blood, contrast.left * (1 + 0.02 * mixing), "left_ventricle")
    for center, axes, radius in (
        (heart.mitral, heart.lv_axes, 0.55 * heart.lv_radius),
        (heart.annulus, basis_along(heart.aortic_normal, (1, 0, 0)), 8.0),
    ):  # blood in the open valves
        paint(ellipsoid(points, center, (3.5, radius, radius), axes), contrast.left, opacity=0.8)
    for angle in (-40, 110):  # papillary muscles: muscle in the image, blood in the label map
        turn = np.deg2rad(angle)
        offset = 0.62 * heart.lv_radius * (np.cos(turn) * heart.lv_axes[:, 1] + np.sin(turn) * heart.lv_axes[:, 2])
        ends = [heart.along_left_ventricle(share * heart.lv_length) + offset for share in (0.42, 0.78)]
        path = np.column_stack([np.stack(ends), [heart.papillary * 0.7, heart.papillary]])
        paint(tube(path), contrast.myocardium + 10, opacity=0.85)

    samples = np.vstack([heart.to_atlas(path) for path in heart.coronary_paths().values()])
    coronary = canvas.sweep(samples)
    coronary[canvas.label == label["aorta"]] = FAR  # an artery starts at the wall of the aorta
    canvas.paint(coronary, contrast.left * 0.95)
    return coronary


def _first(samples: np.ndarray, share: float) -> np.ndarray:
    return samples[: max(1, int(len(samples) * share))]
