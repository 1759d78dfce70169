# SPDX-License-Identifier: Apache-2.0
"""Coronary phantoms: two trees of the right width and place, cut out around them, the cohort's layout."""

import json

import nibabel
import numpy as np
from scipy.ndimage import binary_dilation, distance_transform_edt, label
from skimage.morphology import skeletonize

from custom.phantoms import CoronaryPhantomCohort, draw_cardiac_subject, make_coronary_subject
from custom.phantoms.coronary import MARGIN

SPACING = (1.8, 1.8, 1.8)


def test_two_trees_in_their_box_cut_out_of_the_cardiac_phantom():
    image, coronary, affine = make_coronary_subject(4, SPACING)
    assert image.dtype == np.int16 and coronary.dtype == np.uint8 and image.shape == coronary.shape
    pieces, count = label(coronary, np.ones((3, 3, 3)))
    sizes = np.sort(np.bincount(pieces.ravel())[1:])[::-1]
    assert sizes[:2].sum() > 0.95 * coronary.sum() and sizes[1] > 0.15 * coronary.sum()
    assert 1500 < coronary.sum() * np.prod(SPACING) < 9000  # mm^3
    length = skeletonize(coronary > 0).sum() * 1.8
    assert 250 < length < 1200  # mm of centre line, diagonal steps counted as straight ones
    width = 2 * 1.8 * distance_transform_edt(np.pad(coronary, 1)).max()
    assert 1.8 <= width < 9
    inside = np.argwhere(coronary)
    room = np.concatenate([inside.min(axis=0), np.array(coronary.shape) - 1 - inside.max(axis=0)]) * 1.8
    assert (room < MARGIN + 1.8).all() and np.median(room) >= MARGIN
    around = binary_dilation(coronary, iterations=2) & (coronary == 0)
    assert np.median(image[coronary > 0]) > np.median(image[around]) + 50  # contrast medium in fat

    whole = draw_cardiac_subject(4, SPACING)
    start = np.round(np.linalg.inv(whole.affine) @ affine[:, 3]).astype(int)[:3]
    box = tuple(slice(a, a + n) for a, n in zip(start, image.shape, strict=True))
    assert np.array_equal(whole.image[box], image) and np.array_equal(whole.coronary[box], coronary > 0)
    assert whole.coronary.sum() == coronary.sum()


def test_a_cohort(tmp_path, monkeypatch):
    monkeypatch.setattr("custom.phantoms.coronary.SPACING", (2.4, 2.6))
    root = CoronaryPhantomCohort(str(tmp_path / "cohort"), subjects=2, seed=5, workers=0).make()
    content = json.loads((tmp_path / "cohort" / "dataset.json").read_text())
    assert root == str(tmp_path / "cohort")
    assert content["labels"] == {"0": "background", "1": "coronary_arteries"} and content["numTraining"] == 2
    grids = []
    for entry in content["training"]:
        image, vessels = (nibabel.load(tmp_path / "cohort" / entry[key]) for key in ("image", "label"))
        assert image.shape == vessels.shape and np.allclose(image.affine, vessels.affine)
        assert set(np.unique(np.asarray(vessels.dataobj))) == {0, 1}
        spacing = np.array(image.header.get_zooms())
        assert (spacing >= 2.39).all() and (spacing <= 2.61).all()
        grids.append(image.shape)
    assert grids[0] != grids[1]
