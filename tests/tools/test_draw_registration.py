# SPDX-License-Identifier: Apache-2.0
"""The README's pictures of the method and of two registered brains show what register.json wrote."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from custom.files import write_json
from custom.registration import write_displacement_field
from tools.draw_method import method_figure
from tools.draw_registration import read_pair

SPACING = np.diag([2.0, 2.0, 3.0, 1.0])


def registration(folder: Path, affine: np.ndarray = SPACING) -> Path:
    """A ball that lies 2 voxels (4 mm) to the right in the moving volume, as register.json leaves it."""
    voxels = np.indices((24, 24, 24)) - 12
    bright = 100 + np.random.default_rng(0).random(voxels.shape[1:])
    fixed = np.where((voxels**2).sum(0) < 49, 50 * (voxels[2] > 0) + bright, 0)
    volumes = {"fixed": fixed, "moving": np.roll(fixed, 2, axis=0)}
    for name, volume in volumes.items():
        nibabel.save(nibabel.Nifti1Image(volume.astype(np.float32), affine), folder / f"{name}.nii.gz")
    field = np.zeros((3, *fixed.shape), np.float32)
    field[0] = 4.0
    write_displacement_field(folder / "field.nii.gz", field, affine)
    files = {name: str(folder / f"{name}.nii.gz") for name in volumes}
    write_json(folder / "registration.json", {"files": files, "written": {"displacement_field": "field.nii.gz"}})
    return folder


def test_the_pair_is_drawn_on_the_grid_of_the_fixed_file(tmp_path: Path) -> None:
    pair, _ = read_pair(registration(tmp_path))
    assert np.allclose(pair.warped, pair.fixed) and not np.allclose(pair.moving, pair.fixed)
    assert pair.displacement[0] == pytest.approx(2.0) and not pair.displacement[1:].any()
    assert list(pair.spacing) == [2, 2, 3]
    moving, fixed, warped = pair.labels
    assert set(np.unique(fixed)) == {0, 1, 2} and np.array_equal(np.roll(fixed, 2, axis=0), moving)
    assert np.array_equal(fixed, warped)
    assert np.array_equal(fixed > 0, pair.fixed > 0)


def test_another_order_than_ras_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"fixed.nii.gz is in LAS order, expected RAS"):
        read_pair(registration(tmp_path, np.diag([-2.0, 2.0, 3.0, 1.0])))


def test_the_method_names_its_parts_and_losses() -> None:
    slices = [np.full((8, 6), gray) for gray in (0.1, 0.2, 0.3, 0.4)]
    (plot,) = method_figure(*slices).axes
    text = " ".join(text.get_text() for text in plot.texts).replace("\n", " ")
    for part in ("shared weights", "affine head", "deformable head", "restoration head", "Z-matching head"):
        assert part in text
    for loss in ("registration loss of both stages", "smoothness loss", "contrast of matches", "restoration loss"):
        assert loss in text
    shown = {float(image.get_array()[0, 0]): image.get_extent() for image in plot.get_images()}
    assert list(shown) == [0.1, 0.2, 0.3, 0.4]
    left, right, bottom, top = shown[0.1]
    assert (top - bottom) / (right - left) == pytest.approx(8 / 6)
