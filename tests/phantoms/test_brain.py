# SPDX-License-Identifier: Apache-2.0
"""The brain phantom is anatomy: 28 structures, their size, place, side and neighbours, and what the image shows."""

import itertools
import json

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from scipy.ndimage import label as connected_components

from custom.labels import BRAIN_LABELS
from custom.phantoms import BrainPhantomCohort, make_brain_subject
from custom.phantoms.cohort import subject_seed, write_subject

SEEDS = (0, 1, 2, 3)
SPACING = 2.5
MILLILITRES = {  # of one side; the ranges that volumetry of adults reports, with a margin for the grid
    "cerebral_white_matter": (150, 340),
    "cerebral_cortex": (180, 350),
    "lateral_ventricle": (4, 25),
    "cerebellum_white_matter": (9, 32),
    "cerebellum_cortex": (40, 100),
    "thalamus": (4, 11),
    "caudate": (2.5, 6.5),
    "putamen": (3, 8),
    "pallidum": (0.8, 2.6),
    "hippocampus": (2, 6),
    "amygdala": (0.6, 2.2),
    "ventral_diencephalon": (2.5, 7),
    "third_ventricle": (0.8, 4),
    "fourth_ventricle": (0.8, 4),
    "brain_stem": (15, 33),
    "cerebrospinal_fluid": (100, 400),
}
PAIRED = [name.removeprefix("left_") for name in BRAIN_LABELS if name.startswith("left_")]
SIDES = ("left", "right")


class Subject:
    """A phantom brought to RAS, with masks by name."""

    def __init__(self, seed: int) -> None:
        self.raw = make_brain_subject(seed, (SPACING,) * 3)
        image, label, affine = self.raw
        canonical = [nib.as_closest_canonical(nib.Nifti1Image(volume, affine)) for volume in (image, label)]
        self.image, self.label = (np.asarray(volume.dataobj) for volume in canonical)
        self.affine = canonical[0].affine
        self.mask = {name: self.label == value for name, value in BRAIN_LABELS.items()}

    def where(self, name: str) -> np.ndarray:
        """Millimetre RAS positions (n, 3) of a structure."""
        return nib.affines.apply_affine(self.affine, np.argwhere(self.mask[name]))

    def center(self, name: str) -> np.ndarray:
        return self.where(name).mean(axis=0)

    def contact(self, first: str, second: str) -> int:
        """Voxels of the second structure beside the first."""
        return int((binary_dilation(self.mask[first]) & self.mask[second]).sum())

    def mean(self, *names: str) -> float:
        return float(np.mean([self.image[self.mask[name]].mean() for name in names]))


@pytest.fixture(scope="module")
def subjects() -> dict[int, Subject]:
    return {seed: Subject(seed) for seed in SEEDS}


@pytest.fixture(params=SEEDS)
def subject(request, subjects) -> Subject:
    return subjects[request.param]


def test_label_list():
    """Twelve pairs and four of the midline, with FreeSurfer's values."""
    assert len(BRAIN_LABELS) == len(set(BRAIN_LABELS.values())) == 28 and len(PAIRED) == 12
    assert list(BRAIN_LABELS.values()) == sorted(BRAIN_LABELS.values())
    assert all(f"right_{name}" in BRAIN_LABELS for name in PAIRED)
    assert (BRAIN_LABELS["left_hippocampus"], BRAIN_LABELS["right_hippocampus"]) == (17, 53)
    assert (BRAIN_LABELS["brain_stem"], BRAIN_LABELS["cerebrospinal_fluid"]) == (16, 24)


def test_every_structure_is_there_with_a_plausible_volume(subject):
    assert set(np.unique(subject.label)) == {0, *BRAIN_LABELS.values()}
    for name in BRAIN_LABELS:
        low, high = MILLILITRES[name.removeprefix("left_").removeprefix("right_")]
        volume = subject.mask[name].sum() * SPACING**3 / 1000
        assert low < volume < high, f"{name}: {volume:.2f} ml"


def test_structures_are_in_one_piece(subject):
    for name in BRAIN_LABELS:
        if not name.endswith("cortex") or "cerebellum" in name:
            if name != "cerebrospinal_fluid":
                assert connected_components(subject.mask[name])[1] == 1, name
    for side in SIDES:  # gyri that an oblique plane of voxels cuts off are few
        cortex, _ = connected_components(subject.mask[f"{side}_cerebral_cortex"], np.ones((3, 3, 3)))
        sizes = np.bincount(cortex.reshape(-1))[1:]
        assert sizes.max() > 0.97 * sizes.sum()


def test_size_of_the_brain(subject):
    brain = np.argwhere((subject.label > 0) & ~subject.mask["cerebrospinal_fluid"])
    extent = (np.ptp(brain, axis=0) + 1) * SPACING
    assert (extent > [118, 150, 112]).all() and (extent < [155, 195, 155]).all(), extent


def test_left_is_left_and_the_sides_are_alike(subject):
    """RAS: x grows to the patient's right."""
    for name in PAIRED:
        left, right = subject.center(f"left_{name}"), subject.center(f"right_{name}")
        assert left[0] < right[0] - 8, name
        volumes = [subject.mask[f"{side}_{name}"].sum() for side in SIDES]
        assert abs(volumes[0] - volumes[1]) < 0.32 * sum(volumes) / 2, (name, volumes)
        assert np.abs(left - right)[1:].max() < 0.45 * (right - left)[0] + 8, name  # up to the pose of the head
    for name in ("third_ventricle", "fourth_ventricle", "brain_stem"):
        lateral = [subject.center(f"{side}_thalamus")[0] for side in SIDES]
        assert lateral[0] - 3 < subject.center(name)[0] < lateral[1] + 3, name


@pytest.mark.parametrize("side", SIDES)
def test_places_in_a_hemisphere(subject, side):
    """Orders that hold in every head, in directions of the head: pose turns it by 8 degrees at most."""
    lateral = subject.center("right_thalamus") - subject.center("left_thalamus")
    lateral *= (1 if side == "right" else -1) / np.linalg.norm(lateral)
    names = ["third_ventricle", "fourth_ventricle", "brain_stem", *(f"{side}_{name}" for name in PAIRED)]
    center = {name.removeprefix(f"{side}_"): subject.center(name) for name in names}

    def outwards(name):
        return center[name] @ lateral

    assert outwards("thalamus") > outwards("third_ventricle") + 5
    assert outwards("putamen") > outwards("pallidum") + 2.5 > outwards("caudate")
    assert outwards("pallidum") > outwards("third_ventricle") + 10
    assert outwards("cerebral_cortex") > outwards("thalamus") + 10
    assert center["hippocampus"][2] < center["thalamus"][2] - 10
    assert center["amygdala"][1] > center["hippocampus"][1] + 10  # the amygdala is in front
    assert center["ventral_diencephalon"][2] < center["thalamus"][2] - 8
    assert center["caudate"][1] > center["thalamus"][1] + 12
    assert center["fourth_ventricle"][1] < center["brain_stem"][1] - 5
    assert center["cerebellum_cortex"][1] < center["fourth_ventricle"][1] - 5
    assert center["cerebellum_cortex"][2] < center["cerebral_cortex"][2] - 30
    assert center["brain_stem"][2] < center["third_ventricle"][2] - 15
    occipital = subject.where(f"{side}_lateral_ventricle")[:, 1]
    assert np.ptp(occipital) > 65  # from the frontal to the occipital horn
    assert subject.where(f"{side}_lateral_ventricle")[:, 2].min() < center["thalamus"][2] - 10  # temporal horn


@pytest.mark.parametrize("side", SIDES)
def test_neighbours_touch(subject, side):
    for first, second in (
        ("caudate", "lateral_ventricle"),
        ("putamen", "pallidum"),
        ("hippocampus", "amygdala"),
        ("hippocampus", "lateral_ventricle"),
        ("thalamus", "ventral_diencephalon"),
        ("cerebral_white_matter", "cerebral_cortex"),
        ("cerebellum_white_matter", "cerebellum_cortex"),
    ):
        assert subject.contact(f"{side}_{first}", f"{side}_{second}") > 5, (first, second)
    assert subject.contact(f"{side}_thalamus", "third_ventricle") > 8
    assert subject.contact(f"{side}_cerebellum_white_matter", "brain_stem") > 8
    assert subject.contact("brain_stem", "fourth_ventricle") > 8
    assert subject.contact(f"{side}_ventral_diencephalon", "brain_stem") > 5
    for stranger in ("cerebral_cortex", "lateral_ventricle"):
        assert subject.contact(f"{side}_pallidum", f"{side}_{stranger}") < 5


def test_cortex_is_a_folded_ribbon(subject):
    """Fluid and white matter are never far from it; its surface is much larger than that of a smooth hull."""
    cortex = subject.mask["left_cerebral_cortex"] | subject.mask["right_cerebral_cortex"]
    inner = subject.mask["left_cerebral_white_matter"] | subject.mask["right_cerebral_white_matter"]
    cerebrum = cortex | inner
    border = sum(int((np.diff(inner.astype(np.int8), axis=axis) != 0).sum()) for axis in range(3))
    skin = sum(2 * int(cerebrum.any(axis=axis).sum()) for axis in range(3))  # of the convex shape
    assert border > 1.8 * skin, border / skin
    assert cortex[binary_dilation(inner, iterations=2) & ~inner].mean() > 0.4


def test_signal(subject):
    image, label, _ = subject.raw
    assert image.dtype == np.int16 and label.dtype == np.uint16 and image.min() >= 0
    white = subject.mean("left_cerebral_white_matter", "right_cerebral_white_matter")
    grey = subject.mean("left_cerebral_cortex", "right_cerebral_cortex")
    fluid = subject.mean("left_lateral_ventricle", "right_lateral_ventricle")
    assert white > 1.2 * grey > 1.2 * 1.3 * fluid
    assert grey > 1.2 * subject.mean("cerebrospinal_fluid")
    striatum = subject.mean("left_putamen", "right_putamen")
    assert striatum < subject.mean("left_pallidum", "right_pallidum") < 1.15 * white
    assert fluid < striatum < white
    corner = [subject.image[index] for index in itertools.product((slice(0, 4), slice(-4, None)), repeat=3)]
    assert np.median(corner) < 0.15 * white  # air
    outside = subject.image[subject.label == 0]
    assert (outside > 0.8 * white).sum() * SPACING**3 > 100_000  # the fat of the scalp
    around = binary_dilation(subject.label > 0, iterations=2) & ~binary_dilation(subject.label > 0)
    assert subject.image[around].mean() < 0.5 * white  # bone


def test_subjects_differ(subjects):
    def aligned(subject: Subject, name: str) -> set:
        index = np.argwhere(subject.mask[name])
        thalami = np.argwhere(subject.mask["left_thalamus"] | subject.mask["right_thalamus"]).mean(axis=0)
        return set(map(tuple, np.round(index - thalami).astype(int)))

    overlaps = []
    for first, second in itertools.combinations(subjects.values(), 2):
        for name in ("left_putamen", "right_hippocampus", "brain_stem", "left_cerebral_cortex"):
            a, b = aligned(first, name), aligned(second, name)
            overlaps.append(2 * len(a & b) / (len(a) + len(b)))
    assert 0.2 < np.mean(overlaps) < 0.8 and max(overlaps) < 0.93, overlaps
    levels = [subject.mean("left_cerebral_white_matter") for subject in subjects.values()]
    assert max(levels) > 1.3 * min(levels)  # the scale is arbitrary
    ratios = [s.mean("left_cerebral_cortex") / s.mean("left_cerebral_white_matter") for s in subjects.values()]
    assert np.ptp(ratios) > 0.01


def test_same_seed_same_voxels_and_several_orientations():
    made = [make_brain_subject(seed, (8, 8, 8)) for seed in (0, 1, 2, 3, 4, 0)]
    assert all(np.array_equal(a, b) for a, b in zip(made[0], made[-1], strict=True))
    assert not np.array_equal(made[0][0], made[1][0])
    assert len({"".join(nib.aff2axcodes(affine)) for _, _, affine in made}) >= 2


def test_default_grid_holds_the_head():
    image, label, affine = make_brain_subject(13)
    spacing = nib.affines.voxel_sizes(affine)
    assert (spacing > 1.5).all() and (spacing < 2.1).all()
    extent = np.array(image.shape) * spacing
    assert (extent > 160).all() and (extent < 270).all()
    for axis, end in itertools.product(range(3), (0, -1)):
        assert not label.take(end, axis=axis).any()
    assert set(np.unique(label)) == {0, *BRAIN_LABELS.values()}


def test_spacing_is_checked():
    for spacing in ((2.0, 2.0), (2.0, 0.0, 2.0)):
        with pytest.raises(ValueError, match="three positive numbers"):
            make_brain_subject(0, spacing)


def test_cohort(tmp_path, monkeypatch):
    cohort = BrainPhantomCohort(str(tmp_path), subjects=1, seed=3, workers=0)
    assert cohort.make_subject is make_brain_subject
    monkeypatch.setattr(cohort, "make_subject", lambda seed: make_brain_subject(seed, (8.0, 8.0, 8.0)))
    assert cohort.make() == str(tmp_path)
    description = json.loads((tmp_path / "dataset.json").read_text())
    assert description["name"] == "brain_t1_phantoms" and description["modality"] == {"0": "MR"}
    assert description["generator"] == "1.0" and description["numTraining"] == 1
    assert description["labels"] == {"0": "background"} | {str(value): name for name, value in BRAIN_LABELS.items()}
    label = nib.load(tmp_path / description["training"][0]["label"])
    assert np.array_equal(np.asarray(label.dataobj), make_brain_subject(subject_seed(3, 0), (8.0, 8.0, 8.0))[1])
    write_subject(cohort.make_subject, 5, tmp_path / "image.nii.gz", tmp_path / "label.nii.gz")
    assert nib.load(tmp_path / "image.nii.gz").get_data_dtype() == np.int16
