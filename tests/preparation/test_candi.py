# SPDX-License-Identifier: Apache-2.0
"""CANDI as unpacked, on small files: layouts, orientation, crop, scale, labels, split, bad files, resuming."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from prepared import accept_what_exists, check_resuming, command_line, listed, touch, unusable_files

from custom.labels import BRAIN_LABELS
from custom.preparation import CANDI_CROP, prepare_candi
from custom.preparation.candi import find_candi

SPACING = (2.0, 3.0, 2.0)
BRAIN = (slice(4, 20), slice(3, 15), slice(5, 19))  # 32 x 36 x 28 mm
GROUPS = {"BPDwithPsy": "BPDwPsy", "BPDwithoutPsy": "BPDwoPsy", "HC": "HC", "SS": "SS"}
SMALL = (24, 40, 30)


def brain(extra: int | None = None) -> np.ndarray:
    """The 28 structures in turn, in (L, A, S) order of 24 x 18 x 24 voxels."""
    label = np.zeros((24, 18, 24), np.int16)
    values = np.array(list(BRAIN_LABELS.values()))
    label[BRAIN] = values[np.arange(label[BRAIN].size) % len(values)].reshape(label[BRAIN].shape)
    if extra is not None:
        label[10, 10, 10:14] = extra
    return label


def write_case(
    folder: Path, name: str, label: np.ndarray | None = None, scale: float = 1.0, stored: str = "LAS", ending="_seg"
) -> None:
    """Intensity is 1 + 3 i + 5 j + 2 k; stored as (x, y, z, 1) in the given axes, 2 x 3 x 2 mm."""
    folder.mkdir(parents=True, exist_ok=True)
    label = brain() if label is None else label
    i, j, k = np.indices(label.shape)
    image = (1 + 3 * i + 5 * j + 2 * k) * scale
    affine = np.diag([-SPACING[0], *SPACING[1:], 1.0])
    affine[:3, 3] = [24, -27, -20]
    orientation = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(stored)
    )
    for array, end in ((image.astype(np.int16 if scale == 1 else np.float32)[..., None], "_procimg"), (label, ending)):
        nifti = nibabel.Nifti1Image(array, affine).as_reoriented(orientation)
        nibabel.save(nifti, folder / f"{name}{end}.nii.gz")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three subjects of each group in CANDI's folders."""
    root = tmp_path / "CANDI_share"
    for number in range(12):
        group, short = list(GROUPS.items())[number // 3]
        name = f"{short}_{number + 1:03d}"
        write_case(root / "SchizBull_2008" / group / name, name)
    return root


def names(content: dict, part: str) -> list[str]:
    return [item["subject"] for item in content[part]]


def test_layout_and_split(source, output):
    report = prepare_candi(str(source), str(output), crop=SMALL, workers=0)
    content = listed(output)
    assert len(report.ready) == 12 and not report.unusable
    assert [len(content[part]) for part in ("training", "validation", "test", "unlabelled")] == [5, 2, 5, 0]
    assert len({*names(content, "training"), *names(content, "validation"), *names(content, "test")}) == 12
    assert {item["group"] for item in content["training"]} == set(GROUPS)
    assert content["labels"] == {"0": "background"} | {str(value): name for name, value in BRAIN_LABELS.items()}
    assert content["preprocessing"]["crop"] == list(SMALL) and content["modality"] == {"0": "MR"}
    for item in content["training"] + content["validation"] + content["test"]:
        assert (output / item["image"]).is_file() and (output / item["label"]).is_file()
        assert item["subject"].startswith(GROUPS[item["group"]])


def test_all_subjects_give_the_paper_s_split(tmp_path, output, monkeypatch):
    accept_what_exists(monkeypatch)
    counts = {"HC": 29, "BPDwoPsy": 35, "BPDwPsy": 19, "SS": 20}
    for short, count in counts.items():
        for number in range(count):  # what an earlier run has done
            name = f"{short}_{number:03d}"
            paths = [tmp_path / "in" / name / f"{name}_{end}.nii" for end in ("procimg", "seg")]
            touch(*paths, *(output / part / f"{name}.nii.gz" for part in ("images", "labels")))
    prepare_candi(str(tmp_path / "in"), str(output), workers=0)
    content = listed(output)
    assert [len(content[part]) for part in ("training", "validation", "test")] == [40, 20, 43]
    assert content["split"]["note"] == "split: training 40, validation 20, test 43"
    for part in ("training", "validation", "test"):
        for short, count in counts.items():
            share = [item["group"] for item in content[part]].count(
                {value: key for key, value in GROUPS.items()}[short]
            )
            assert abs(share - count * len(content[part]) / 103) <= 1.5


@pytest.mark.parametrize(
    "image, label, group",
    [
        ("SchizBull_2008/BPDwithPsy/BPDwPsy_065/BPDwPsy_065_procimg.nii.gz", "BPDwPsy_065_seg.nii.gz", "BPDwithPsy"),
        ("SS/SS_084_procimg.nii", "SS_084.seg.nii", "SS"),
        ("x/HC/deep/er/a1_procimg.nii.gz", "a1_seg.nii", "HC"),
        ("BPDwoPsy_030/BPDwoPsy_030_procimg.nii.gz", "BPDwoPsy_030_seg.nii.gz", "BPDwithoutPsy"),
        ("other/b2/b2_procimg.nii.gz", "b2_seg.nii.gz", "other"),
    ],
)
def test_folders_and_names(tmp_path, image, label, group):
    image = tmp_path / image
    touch(image, image.with_name(label), image.with_name(f"._{image.name}"))
    found, groups, unusable = find_candi(tmp_path)
    name = image.name.split("_procimg")[0]
    assert found == {name: {"image": str(image), "label": str(image.with_name(label))}}
    assert groups == {name: group} and not unusable


@pytest.mark.parametrize("stored", ["LAS", "RSA", "PIL"])
def test_orientation_spacing_crop_and_values(tmp_path, output, stored, capsys):
    for number in range(3):
        write_case(tmp_path / "in", f"HC_00{number}", stored=stored)
    size = (40, 60, 44)  # cut, padded (54 mm are there), cut
    prepare_candi(str(tmp_path / "in"), str(output), crop=size, workers=0)
    image, label = (nibabel.load(output / part / "HC_000.nii.gz") for part in ("images", "labels"))
    assert image.shape == label.shape == size
    assert nibabel.aff2axcodes(image.affine) == ("R", "A", "S")
    np.testing.assert_allclose(image.header.get_zooms(), 1.0, atol=1e-5)
    np.testing.assert_allclose(image.affine, label.affine)
    assert image.get_data_dtype() == label.get_data_dtype() == np.int16
    assert set(np.unique(label.get_fdata())) == {0, *BRAIN_LABELS.values()}
    original = np.diag([-2.0, 3.0, 2.0, 1.0])
    original[:3, 3] = [24, -27, -20]
    # the centre of the box is that of the volume, to a voxel
    middle = image.affine @ [*(np.array(size) - 1) / 2, 1]
    np.testing.assert_allclose(middle, original @ [11.5, 8.5, 11.5, 1], atol=1.01)
    for place in (np.array([10, 20, 12]), np.array([30, 35, 30])):
        i, j, k = (np.linalg.inv(original) @ (image.affine @ [*place, 1]))[:3]
        assert image.get_fdata()[tuple(place)] == pytest.approx(1 + 3 * i + 5 * j + 2 * k, abs=0.6)
        nearest = tuple(np.round([i, j, k]).astype(int))
        if all(abs(value % 1 - 0.5) > 0.05 for value in (i, j, k)):
            assert label.get_fdata()[tuple(place)] == brain()[nearest]
    assert image.get_fdata()[:, 0].max() == image.get_fdata()[:, -1].max() == 0  # padding
    assert "cuts off" not in capsys.readouterr().err


def test_crop_of_the_paper_holds_its_voxels():
    """160 x 160 x 128 voxels of 0.9375 x 0.9375 x 1.5 mm, coronal slices: to the right, top and front."""
    assert CANDI_CROP == (160 * 0.9375, 128 * 1.5, 160 * 0.9375)


def test_a_label_map_off_by_a_little_is_written_on_the_grid_of_its_image(source, output):
    path = source / "SchizBull_2008" / "HC" / "HC_007" / "HC_007_seg.nii.gz"
    label = nibabel.load(path)
    affine = label.affine.copy()
    affine[0, 3] += 0.5
    nibabel.save(nibabel.Nifti1Image(np.asarray(label.dataobj), affine), path)
    prepare_candi(str(source), str(output), crop=SMALL, workers=0)
    image, label, other = (
        nibabel.load(output / name) for name in ("images/HC_007.nii.gz", "labels/HC_007.nii.gz", "labels/HC_008.nii.gz")
    )
    np.testing.assert_array_equal(image.affine, label.affine)
    np.testing.assert_array_equal(label.get_fdata(), other.get_fdata())


def test_scale_stays(tmp_path, output):
    for number in range(3):
        write_case(tmp_path / "in" / "HC", f"HC_{number}", scale=(1.0, 0.01, 1000.0)[number])
    prepare_candi(str(tmp_path / "in"), str(output), crop=SMALL, workers=0)
    whole, fine, large = (nibabel.load(output / "images" / f"HC_{number}.nii.gz") for number in range(3))
    assert whole.get_data_dtype() == np.int16
    assert fine.get_data_dtype() == large.get_data_dtype() == np.float32
    np.testing.assert_allclose(fine.get_fdata() * 100, large.get_fdata() / 1000, atol=1e-3)
    np.testing.assert_allclose(fine.get_fdata() * 100, whole.get_fdata(), atol=0.501)


def test_remarks_on_other_values_and_on_what_is_cut_off(source, output, capsys):
    folder = source / "SchizBull_2008" / "HC" / "HC_007"
    write_case(folder, "HC_007", brain(extra=85))
    prepare_candi(str(source), str(output), crop=(48, 54, 20), workers=0)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("HC_007")]
    assert len(said) == 1 and "{85: 4}" in said[0] and "cuts off" in said[0]
    assert 85 not in np.unique(nibabel.load(output / "labels" / "HC_007.nii.gz").get_fdata())
    # of 28 mm from bottom to top, 20 stay
    lost, whole = (int(said[0].split(" labelled")[0].split(word)[1].split()[0]) for word in ("off ", "of "))
    assert lost / whole == pytest.approx(8 / 28, abs=0.04)


def test_bad_files_are_reported_and_the_others_go_on(source, output):
    folders = {name: source / "SchizBull_2008" / "BPDwithPsy" / name for name in ("BPDwPsy_001", "BPDwPsy_002")}
    broken = folders["BPDwPsy_001"] / "BPDwPsy_001_procimg.nii.gz"
    broken.write_bytes(broken.read_bytes()[:500])
    (folders["BPDwPsy_002"] / "BPDwPsy_002_seg.nii.gz").unlink()
    write_case(source / "SchizBull_2008" / "SS" / "SS_010", "SS_010", np.full((24, 18, 24), 85, np.int16))
    nibabel.save(
        nibabel.Nifti1Image(np.full((4, 4, 4), 2, np.int16), np.eye(4)),
        source / "SchizBull_2008" / "SS" / "SS_011" / "SS_011_seg.nii.gz",
    )
    write_case(source / "again", "SS_012")
    assert "8 cases ready" in command_line("candi", source, output, "--workers", "0", "--crop", "24,40,30")
    reasons = {name.split("_procimg")[0]: reason for name, reason in unusable_files(output).items()}
    assert set(reasons) == {"BPDwPsy_001", "BPDwPsy_002", "SS_010", "SS_011", "SS_012"}
    assert "cannot be read" in reasons["BPDwPsy_001"] and "no BPDwPsy_002_seg" in reasons["BPDwPsy_002"]
    assert "values [85]" in reasons["SS_010"] and "(4, 4, 4)" in reasons["SS_011"]
    assert "is taken by" in reasons["SS_012"]
    assert sum(len(listed(output)[part]) for part in ("training", "validation", "test")) == 8


def test_resumes_and_refuses_other_parameters(source, output):
    files = [output / "images" / f"HC_00{number}.nii.gz" for number in (7, 8)]
    check_resuming(lambda: prepare_candi(str(source), str(output), crop=SMALL, workers=0), output, *files)
    with pytest.raises(ValueError, match="crop"):
        prepare_candi(str(source), str(output), workers=0)


def test_missing_and_foreign_source(tmp_path, output):
    with pytest.raises(FileNotFoundError, match="absent"):
        prepare_candi(str(tmp_path / "absent"), str(output))
    with pytest.raises(ValueError, match="NAME_procimg"):
        prepare_candi(str(tmp_path), str(output))
    with pytest.raises(ValueError, match="three positive"):
        prepare_candi(str(tmp_path), str(output), crop=(160, 160))
