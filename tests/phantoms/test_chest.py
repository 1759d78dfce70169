# SPDX-License-Identifier: Apache-2.0
"""Chest phantoms: opacities like COVID-19's, which whole-lung intensities do not give away; the cohort's layout."""

import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import nibabel
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.stats import mannwhitneyu

from custom.phantoms import ChestPhantomCohort, make_chest_subject
from custom.phantoms.chest import severity
from custom.phantoms.cohort import subject_seed
from custom.phantoms.opacities import LungGeometry, fill, opacities, settle

COARSE = (6.0, 6.0, 6.0)


def ras(seed: int, diseased: bool, spacing=COARSE) -> tuple[np.ndarray, np.ndarray]:
    """Image and lung mask in RAS order."""
    image, mask, affine = make_chest_subject(seed, diseased, spacing)
    turned = [nibabel.as_closest_canonical(nibabel.Nifti1Image(part, affine)).get_fdata() for part in (image, mask)]
    return turned[0], turned[1] > 0


def test_a_chest():
    image, mask, affine = make_chest_subject(5, True)
    assert image.dtype == np.int16 and mask.dtype == np.uint16 and image.shape == mask.shape
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    assert (spacing > 2.9).all() and (spacing < 3.6).all()
    assert 1.5e6 < (mask == 1).sum() * np.prod(spacing) < 7e6  # mm^3: the two lungs of an adult
    assert -850 < np.median(image[mask == 1]) < -600
    assert np.array_equal(make_chest_subject(5, True).image, image)
    with pytest.raises(ValueError, match="spacing"):
        make_chest_subject(5, True, (1.0, 0.0, 1.0))


def test_lungs_of_the_mask_are_two_and_inside():
    image, mask = ras(8, False)
    for axis in (0, 1):
        assert not mask.take([0, -1], axis=axis).any()
    half = mask.shape[0] // 2
    left, right = mask[:half].sum(), mask[half:].sum()
    assert 0.4 < left / right < 2.5
    assert np.mean(image[mask] > 0) < 0.12  # vessels and opacities only


def ball(radius: float = 90.0, spacing: float = 6.0) -> LungGeometry:
    """A lung that is a ball around the origin, cut into a left and a right half."""
    axis = np.arange(-radius - 12, radius + 12, spacing, dtype=np.float32)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))
    return LungGeometry(points, (points**2).sum(axis=0) < radius**2, np.full(3, spacing))


def test_opacities_are_fuzzy_lie_at_the_pleura_of_both_halves_and_grow_with_severity():
    geometry = ball()
    noise = np.zeros(geometry.mask.shape, np.float32)
    volumes = []
    for severe in (0.1, 0.9):
        shares = [opacities(np.random.default_rng(seed), geometry, noise, noise, severe) for seed in range(4)]
        volumes.append(np.mean([np.mean(share[geometry.mask] > 0.1) for share in shares]))
        for share in shares:
            assert share.min() >= 0 and share.max() <= 0.97 and not share[~geometry.mask].any()
            lesion = share > 0.1
            depth = geometry.depth()
            assert np.average(depth, weights=share) < 0.9 * np.mean(depth[geometry.mask])
            right = geometry.points[0] > 0
            assert 0.15 < lesion[right].sum() / lesion.sum() < 0.85
            assert 0.1 < np.median(share[lesion]) < 0.5  # ground glass
            assert np.mean((share > 0.02) & (share < 0.2)) > 0.2 * np.mean(lesion)  # edges fade
    assert 0.02 < volumes[0] < 0.6 * volumes[1] < 0.4


def test_settled_fluid_has_the_same_shares_and_lies_at_the_back():
    geometry = ball()
    noise = np.zeros(geometry.mask.shape, np.float32)
    share = opacities(np.random.default_rng(0), geometry, noise, noise, 0.6)
    settled = settle(share, np.random.default_rng(1), geometry)
    assert np.array_equal(np.sort(settled[geometry.mask]), np.sort(share[geometry.mask]))
    assert not settled[~geometry.mask].any()
    height = geometry.height_over_back()
    dense = settled > 0.2
    assert np.mean(height[dense]) < 0.35 * np.mean(height[geometry.mask])


def test_fluid_leaves_vessels_as_they_are():
    lung, vessel, full = np.float32([-850]), np.float32([30]), np.ones(1, np.float32)
    assert fill(lung, 0.3 * full, full) == pytest.approx(-850 + 0.3 * 885)  # + 265 HU
    assert fill(vessel, 0.3 * full, full) == pytest.approx(31.5)
    assert fill(lung, full, full) == pytest.approx(35)
    assert fill(lung, full, 0 * full) == pytest.approx(-850)


def test_in_the_image_a_patient_differs_from_the_same_subject_without_disease_inside_the_lungs_only():
    ill, mask = ras(21, True)
    well, same_mask = ras(21, False)
    assert np.array_equal(mask, same_mask)
    added = gaussian_filter(ill - well, 1.0)
    outside = distance_transform_edt(~mask, sampling=COARSE) > 15
    assert np.abs((ill - well)[outside]).max() <= 1
    assert 0.01 < np.mean(added[mask] > 100) < 0.4


def test_severity_is_known_before_drawing_and_adds_lesion():
    seeds = sorted((subject_seed(0, number) for number in range(24)), key=severity)
    assert severity(seeds[0]) < 0.25 and severity(seeds[-1]) > 0.6

    def dense(seed: int) -> float:
        image, mask = ras(seed, True)
        return np.mean(image[mask] > np.median(image[mask]) + 120)

    assert np.mean([dense(seed) for seed in seeds[-3:]]) > np.mean([dense(seed) for seed in seeds[:3]]) + 0.03


def test_before_the_scanner_the_histogram_of_the_lungs_is_that_of_a_patient():
    ill, mask = ras(33, True)
    well, _ = ras(33, False)
    steps = np.linspace(2, 98, 25)
    difference = np.percentile(ill[mask], steps) - np.percentile(well[mask], steps)
    assert np.abs(difference).max() < 25  # HU; blur and noise of the scanner
    assert np.abs(ill - well)[mask].mean() > 15 and np.percentile(np.abs(ill - well)[mask], 98) > 100


def features(number: int) -> tuple[list[float], float]:
    """Whole-lung statistics in HU, and one texture: the spread after the mean of each depth and height is removed."""
    image, mask = ras(subject_seed(7, number), bool(number % 2))
    values = image[mask]
    smooth = gaussian_filter(np.where(mask, np.clip(image, -1000, -300), 0), 1.0)
    smooth = smooth / np.maximum(gaussian_filter(mask * 1.0, 1.0), 1e-3)
    depth = (np.arange(mask.shape[1])[None, :, None] - np.argmax(mask, axis=1)[:, None]) * np.ones(mask.shape)
    height = np.indices(mask.shape)[2][mask]
    height = (height - height.min()) * 6 // (np.ptp(height) + 1)
    level = (np.clip(depth[mask], 0, 25) * 6 + height).astype(int)
    mean = np.bincount(level, smooth[mask]) / np.maximum(np.bincount(level), 1)
    return [values.mean(), values.std(), *np.percentile(values, [5, 25, 50, 75, 95])], (
        smooth[mask] - mean[level]
    ).std()


def test_whole_lung_intensities_do_not_give_the_answer_away():
    with ProcessPoolExecutor(2) as pool:
        found = list(pool.map(features, range(40)))
    ill = np.arange(40) % 2 == 1
    statistics, texture = np.array([row[0] for row in found]), np.array([row[1] for row in found])

    def area(score: np.ndarray) -> float:
        value = mannwhitneyu(score[ill], score[~ill]).statistic / (ill.sum() * (~ill).sum())
        return max(value, 1 - value)

    assert max(area(column) for column in statistics.T) < 0.72
    assert area(texture) > 0.85


@pytest.fixture
def cohort(tmp_path) -> ChestPhantomCohort:
    made = ChestPhantomCohort(str(tmp_path), subjects=10, seed=3, workers=2)
    made.make_subject = partial(make_chest_subject, spacing=(14.0, 14.0, 14.0))
    made.make()
    return made


def test_cohort(cohort, tmp_path):
    content = json.loads((tmp_path / "dataset.json").read_text())
    lists = [content[part] for part in ("training", "validation", "test")]
    assert [len(items) for items in lists] == [4, 2, 4]
    for items in lists:
        assert sum(item["label"] for item in items) * 2 == len(items)
        assert all(item["severe"] <= item["label"] for item in items)
    items = sum(lists, [])
    assert len({item["subject"] for item in items}) == 10
    for item in items:
        image, mask = (nibabel.load(tmp_path / item[part]) for part in ("image", "mask"))
        assert image.shape == mask.shape and np.allclose(image.affine, mask.affine)
        seed = subject_seed(3, int(item["subject"][-3:]))
        again = make_chest_subject(seed, bool(item["label"]), (14.0, 14.0, 14.0))
        assert np.array_equal(np.asarray(image.dataobj), again.image)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nii.gz")}
    assert cohort.make() == str(tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nii.gz")}


def test_who_is_a_patient_follows_the_seed_not_the_number(tmp_path):
    few, many = (ChestPhantomCohort(str(tmp_path), subjects=count, seed=1) for count in (20, 40))
    patients = [many.is_patient(number) for number in range(40)]
    assert patients[:20] == [few.is_patient(number) for number in range(20)]
    assert sum(patients) == 20 and len(set(patients[::2])) == 2
    assert patients != [ChestPhantomCohort(str(tmp_path), 40, seed=2).is_patient(number) for number in range(40)]


def test_odd_and_tiny_cohorts_are_refused(tmp_path):
    for subjects in (5, 4, 7):
        with pytest.raises(ValueError, match=f"got {subjects}"):
            ChestPhantomCohort(str(tmp_path), subjects=subjects)
