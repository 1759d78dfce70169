# SPDX-License-Identifier: Apache-2.0
"""The cardiac phantom is anatomy: structures, their size, place and neighbours, and what the image shows of them."""

import itertools

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter
from scipy.ndimage import label as connected_components

from custom.phantoms import CARDIAC_LABELS, draw_cardiac_subject, make_cardiac_subject
from custom.phantoms.lungs import grow_tree

SEEDS = (0, 1, 2)
MILLILITRES = {
    "myocardium": (70, 260),
    "left_atrium": (40, 170),
    "left_ventricle": (55, 210),
    "right_atrium": (35, 170),
    "right_ventricle": (40, 190),
    "aorta": (30, 150),
    "pulmonary_artery": (30, 140),
}


class Subject:
    """A phantom brought to RAS, with masks by name."""

    def __init__(self, seed: int) -> None:
        raw = draw_cardiac_subject(seed, (2.5, 2.5, 2.5))
        canonical = [
            nib.as_closest_canonical(nib.Nifti1Image(volume.astype(kind), raw.affine))
            for volume, kind in ((raw.image, np.int16), (raw.label, np.uint16), (raw.coronary, np.uint8))
        ]
        self.image, self.label, self.coronary = (np.asarray(volume.dataobj) for volume in canonical)
        self.coronary = self.coronary > 0
        self.affine = canonical[0].affine
        self.raw = raw
        self.mask = {name: self.label == value for name, value in CARDIAC_LABELS.items()}
        self.smooth = gaussian_filter(self.image.astype(np.float32), 1.0)

    def where(self, mask: np.ndarray) -> np.ndarray:
        """Millimetre RAS positions (n, 3) of a mask."""
        return nib.affines.apply_affine(self.affine, np.argwhere(mask))

    def center(self, name: str) -> np.ndarray:
        return self.where(self.mask[name]).mean(axis=0)

    def contact(self, first: str, second: str) -> int:
        """Voxels of the second structure beside the first."""
        return int((binary_dilation(self.mask[first]) & self.mask[second]).sum())

    def core(self, name: str) -> np.ndarray:
        return self.image[binary_erosion(self.mask[name], iterations=2)]


@pytest.fixture(scope="module")
def subjects() -> dict[int, Subject]:
    return {seed: Subject(seed) for seed in SEEDS}


@pytest.fixture(params=SEEDS)
def subject(request, subjects) -> Subject:
    return subjects[request.param]


def test_labels_are_those_of_mm_whs():
    """Values of the MM-WHS challenge's label maps (Zhuang and Shen, 2016)."""
    names = ("myocardium", "left_atrium", "left_ventricle", "right_atrium", "right_ventricle", "aorta")
    assert [CARDIAC_LABELS[name] for name in (*names, "pulmonary_artery")] == [205, 420, 500, 550, 600, 820, 850]


def test_every_structure_is_one_piece_of_plausible_size(subject):
    assert set(np.unique(subject.label)) == {0, *CARDIAC_LABELS.values()}
    for name, (low, high) in MILLILITRES.items():
        volume = subject.mask[name].sum() * 2.5**3 / 1000
        assert low < volume < high, f"{name}: {volume:.0f} ml"
        assert connected_components(subject.mask[name])[1] == 1, name


def test_left_ventricle_lies_in_its_muscle(subject):
    blood = subject.mask["left_ventricle"]
    rim = binary_dilation(blood) & ~blood
    assert subject.mask["myocardium"][rim].mean() > 0.6
    assert subject.mask["right_ventricle"][rim].mean() < 0.03  # the septum is closed


def test_neighbours_touch(subject):
    for pair in (
        ("left_atrium", "left_ventricle"),
        ("right_atrium", "right_ventricle"),
        ("left_ventricle", "aorta"),
        ("right_ventricle", "pulmonary_artery"),
    ):
        assert subject.contact(*pair) > 15, pair
    assert subject.contact("right_atrium", "left_ventricle") < 30
    assert subject.contact("left_ventricle", "pulmonary_artery") == 0


def test_places_in_the_patient(subject):
    """RAS: x grows to the right, y to the front, z upwards."""
    center = {name: subject.center(name) for name in CARDIAC_LABELS}
    blood = subject.where(subject.mask["left_ventricle"])
    depth = np.linalg.norm(blood - center["left_atrium"], axis=1)
    apex, base = blood[np.argsort(depth)[-30:]].mean(axis=0), blood[np.argsort(depth)[:30]].mean(axis=0)
    assert apex[0] < base[0] - 15 and apex[1] > base[1] + 10 and apex[2] < base[2] - 5
    assert center["right_atrium"][0] > center["left_atrium"][0] + 5
    assert center["right_atrium"][0] > center["right_ventricle"][0] + 20
    assert center["left_atrium"][1] < center["right_ventricle"][1] - 40
    assert center["right_ventricle"][1] > center["left_ventricle"][1] + 5
    assert center["left_atrium"][2] > center["left_ventricle"][2]
    assert center["aorta"][2] > center["left_ventricle"][2] + 30
    # the pulmonary trunk leaves in front and to the left of the aortic root
    planes = [subject.where(binary_dilation(subject.mask[a]) & subject.mask[b]).mean(axis=0)
              for a, b in (("left_ventricle", "aorta"), ("right_ventricle", "pulmonary_artery"))]  # fmt: skip
    assert planes[1][0] < planes[0][0] - 5 and planes[1][1] > planes[0][1] + 10


def test_chest_around_the_heart(subject):
    positions = nib.affines.apply_affine(subject.affine, np.moveaxis(np.indices(subject.image.shape), 0, -1))
    x, y, z = np.moveaxis(positions, -1, 0)
    atrium, heart = subject.center("left_atrium"), subject.where(subject.label > 0)
    bone = subject.smooth > 220
    spine = bone & (subject.label == 0) & (y < heart[:, 1].min() - 15) & (np.abs(x - atrium[0] + 5) < 30)
    assert spine.sum() * 2.5**3 > 15_000
    level = (np.abs(z - atrium[2]) < 4) & (np.abs(y - atrium[1]) < 12)
    for side in (1, -1):  # lung on both sides of the heart
        beside = level & (np.abs((x - atrium[0]) * side - 68) < 8)
        assert (subject.image[beside] < -600).mean() > 0.2  # among the vessels of the hilum
    assert (subject.smooth < -650).mean() > 0.25
    # the liver on the right reaches higher than what lies below the left lung, behind the apex of the heart
    tops = []
    for side in (1, -1):
        patch = (np.abs((x - atrium[0]) * side - 60) < 10) & (np.abs(y - atrium[1]) < 10)
        soft = (subject.smooth > 0) & (subject.smooth < 160) & (z < atrium[2])
        share = (patch & soft).sum(axis=(0, 1)) / patch.sum(axis=(0, 1))
        tops.append(np.flatnonzero(share > 0.5).max(initial=-1))
    assert tops[0] > max(tops[1], 2), tops
    # gas under the left dome is the stomach's
    low = z < heart[:, 2].min()
    gas = (subject.image < -850) & low & (np.abs(y - atrium[1] - 45) < 30)
    assert gas[x < atrium[0]].sum() >= gas[(x > atrium[0]) & (x < atrium[0] + 60)].sum()


def test_hounsfield_units(subject):
    assert subject.raw.image.dtype == np.int16 and subject.raw.label.dtype == np.uint16
    assert subject.image.min() >= -1024 and 300 < subject.image.max() <= 3000
    left, right = np.median(subject.core("left_ventricle")), np.median(subject.core("right_ventricle"))
    assert 270 < left < 515 and 85 < right < 420
    assert 75 < np.median(subject.core("myocardium")) < 140
    assert abs(np.median(subject.core("aorta")) - left) < 40
    assert np.percentile(subject.image, 3) < -800  # lung and the air around the patient
    assert 9 < subject.core("left_ventricle").std() < 90


def test_coronary_arteries_run_on_the_heart(subject):
    assert 0.8 < subject.coronary.sum() * 2.5**3 / 1000 < 12
    assert not (subject.coronary & subject.mask["aorta"]).any()
    blood = subject.mask["left_ventricle"] | subject.mask["right_ventricle"] | subject.mask["left_atrium"]
    assert blood[subject.coronary].mean() < 0.05
    near = binary_dilation(subject.label > 0, iterations=4)
    assert near[subject.coronary].mean() > 0.95
    start = binary_dilation(subject.mask["aorta"], iterations=2) & subject.coronary
    assert connected_components(start, np.ones((3, 3, 3)))[1] >= 2  # left main and right coronary artery


def test_subjects_differ(subjects):
    shape = np.min([s.label.shape for s in subjects.values()], axis=0)

    def cut(volume):
        start = (np.array(volume.shape) - shape) // 2
        return volume[tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))]

    overlaps = []
    for first, second in itertools.combinations(subjects.values(), 2):
        for name in CARDIAC_LABELS:
            a, b = cut(first.mask[name]), cut(second.mask[name])
            overlaps.append(2 * (a & b).sum() / (a.sum() + b.sum()))
    assert max(overlaps) < 0.9
    assert 0.25 < np.mean(overlaps) < 0.65, np.mean(overlaps)


def test_default_grid():
    image, _, affine = make_cardiac_subject(7)
    spacing = nib.affines.voxel_sizes(nib.as_closest_canonical(nib.Nifti1Image(image, affine)).affine)
    assert spacing[0] == pytest.approx(spacing[1]) and 1.8 <= spacing[0] <= 2.2 and 2.0 <= spacing[2] <= 2.5
    extent = np.array(image.shape) * nib.affines.voxel_sizes(affine)
    assert 260 < extent[0] < 305 and 210 < extent[1] < 245 and 148 < extent[2] < 175
    assert np.isfinite(affine).all() and affine[3].tolist() == [0, 0, 0, 1]


def test_same_seed_same_voxels_and_several_orientations():
    made = [make_cardiac_subject(seed, (9, 9, 9)) for seed in (0, 1, 2, 3, 4, 0)]
    assert all(np.array_equal(a, b) for a, b in zip(made[0], made[-1], strict=True))
    assert not np.array_equal(made[0][0], made[1][0])
    codes = {"".join(nib.aff2axcodes(affine)) for _, _, affine in made}
    assert len(codes) >= 2


def test_tree_stays_inside_and_thins_out():
    def inside(points):
        return points[0] < 60

    towards = np.array([[1.0, 0, 0], [1, 0.5, 0]])
    samples = grow_tree(np.random.default_rng(0), (0, 0, 0), towards, 4, 20, 25, 6, inside)
    assert samples.shape[1] == 4 and samples[:, 0].max() < 63
    far = np.linalg.norm(samples[:, :3], axis=1)
    assert samples[far > 50, 3].mean() < samples[far < 15, 3].mean()
