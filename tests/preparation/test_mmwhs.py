# SPDX-License-Identifier: Apache-2.0
"""MM-WHS as unpacked, on small files: crop, spacing, labels, split, bad files, resuming."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from prepared import check_resuming, command_line, listed, touch, unusable_files

from custom.preparation import MMWHS_LABELS, prepare_mmwhs

HEART = (slice(6, 20), slice(8, 22), slice(5, 15))


def write_case(folder: Path, name: str, labelled: bool = True, stray: int | None = None) -> None:
    """30 x 32 x 20 voxels of 1.5 x 1.5 x 2 mm in LPS; HU of a voxel is its place, the heart a box of seven slabs."""
    folder.mkdir(parents=True, exist_ok=True)
    place = np.indices((30, 32, 20)).astype(np.int16)
    image = -1200 + 40 * place[0] + 30 * place[1] + 50 * place[2]
    affine = np.diag([-1.5, -1.5, 2.0, 1.0])
    affine[:3, 3] = [40, 30, -700]
    nibabel.save(nibabel.Nifti1Image(image.astype(np.int16), affine), folder / f"{name}_image.nii.gz")
    if labelled:
        label = np.zeros(image.shape, np.int16)
        slabs = np.array(list(MMWHS_LABELS.values()))
        label[HEART] = slabs[(np.arange(14) // 2)][:, None, None]
        if stray is not None:
            label[10, 10, 10] = stray
        nibabel.save(nibabel.Nifti1Image(label, affine), folder / f"{name}_label.nii.gz")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Eight labelled volumes, one with a stray value, and two without labels."""
    root = tmp_path / "MM-WHS"
    for number in range(1001, 1009):
        write_case(root / "ct_train", f"ct_train_{number}", stray=421 if number == 1003 else None)
    for number in (2001, 2002):
        write_case(root / "ct_test", f"ct_test_{number}", labelled=False)
    return root


def test_layout_and_split(source, output):
    report = prepare_mmwhs(str(source), str(output), workers=0)
    content = listed(output)
    assert len(report.ready) == 10 and not report.unusable
    assert (len(content["training"]), len(content["validation"])) == (6, 2)
    assert content["test"] == ["./images/ct_test_2001.nii.gz", "./images/ct_test_2002.nii.gz"]
    assert content["labels"] == {"0": "background"} | {str(value): name for name, value in MMWHS_LABELS.items()}
    subjects = [item["subject"] for part in ("training", "validation") for item in content[part]]
    assert sorted(subjects) == [f"ct_train_{number}" for number in range(1001, 1009)]
    assert "scaled to 8" in content["split"]["note"]
    for item in content["training"] + content["validation"]:
        assert (output / item["image"]).is_file() and (output / item["label"]).is_file()
    assert not list(output.rglob(".*.nii.gz"))


def test_crop_spacing_window_and_values(source, output):
    prepare_mmwhs(str(source), str(output), margin=3.0, workers=0)
    image, label = (nibabel.load(output / part / "ct_train_1003.nii.gz") for part in ("images", "labels"))
    assert image.get_data_dtype() == label.get_data_dtype() == np.int16
    assert nibabel.aff2axcodes(image.affine) == ("R", "A", "S")
    np.testing.assert_allclose(image.header.get_zooms(), 1.0, atol=1e-5)
    np.testing.assert_allclose(image.affine, label.affine)
    assert image.shape == label.shape
    # the heart's 14 x 14 x 10 voxels of 1.5, 1.5 and 2 mm, and two voxels (3 mm of margin) on each side
    np.testing.assert_allclose(image.shape, [18 * 1.5, 18 * 1.5, 14 * 2.0], atol=1.6)
    values = set(np.unique(label.get_fdata())) - {421.0}
    assert values == {0.0, *MMWHS_LABELS.values()}
    assert image.get_fdata().min() >= -1024 and image.get_fdata().max() <= 1024
    # intensities stay where they were in the patient: a linear ramp survives linear interpolation
    original = nibabel.load(source / "ct_train" / "ct_train_1003_image.nii.gz")
    center = image.affine @ [*(np.array(image.shape) // 2), 1]
    i, j, k = (np.linalg.inv(original.affine) @ center)[:3]
    wanted = np.clip(-1200 + 40 * i + 30 * j + 50 * k, -1024, 1024)
    assert image.get_fdata()[tuple(np.array(image.shape) // 2)] == pytest.approx(wanted, abs=1)


def test_sixty_labelled_give_the_paper_s_split(tmp_path, output):
    for number in range(60):
        name = f"ct_{'train' if number < 20 else 'test'}_{1001 + number}"
        write_case(tmp_path / "in", name)
        touch(*(output / part / f"{name}.nii.gz" for part in ("images", "labels")))  # what an earlier run has done
    prepare_mmwhs(str(tmp_path / "in"), str(output), workers=0)
    content = listed(output)
    assert [len(content[part]) for part in ("training", "validation", "test", "unlabelled")] == [15, 5, 40, 0]


def test_bad_files_are_reported_and_the_others_go_on(source, output):
    folder = source / "ct_train"
    broken = folder / "ct_train_1001_image.nii.gz"
    broken.write_bytes(broken.read_bytes()[:500])
    (folder / "ct_train_1002_label.nii.gz").unlink()
    write_case(folder, "ct_train_1004", stray=77)
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), folder / "ct_train_1005_label.nii.gz")
    command_line("mmwhs", source, output)
    reasons = {name[:13]: reason for name, reason in unusable_files(output).items()}
    assert set(reasons) == {"ct_train_1001", "ct_train_1002", "ct_train_1004", "ct_train_1005"}
    assert "cannot be read" in reasons["ct_train_1001"] and "ct_train_1002_label" in reasons["ct_train_1002"]
    assert "77" in reasons["ct_train_1004"] and "(4, 4, 4)" in reasons["ct_train_1005"]
    assert sum(len(listed(output)[part]) for part in ("training", "validation")) == 4


def test_resumes_and_refuses_other_parameters(source, output):
    files = [output / "images" / f"ct_train_{number}.nii.gz" for number in (1001, 1002)]
    check_resuming(lambda: prepare_mmwhs(str(source), str(output), workers=0), output, *files)
    with pytest.raises(ValueError, match="margin_mm"):
        prepare_mmwhs(str(source), str(output), margin=20.0, workers=0)


def test_missing_and_foreign_source(tmp_path, output):
    with pytest.raises(FileNotFoundError, match="absent"):
        prepare_mmwhs(str(tmp_path / "absent"), str(output))
    with pytest.raises(ValueError, match="ct_train_NNNN_image"):
        prepare_mmwhs(str(tmp_path), str(output))


def test_a_second_file_of_a_name_is_reported(source, output):
    write_case(source / "backup", "ct_train_1001")
    image = nibabel.load(source / "ct_train" / "ct_train_1002_image.nii.gz")
    nibabel.save(image, source / "ct_train" / "ct_train_1002_image.nii")
    command_line("mmwhs", source, output)
    reasons = unusable_files(output)
    assert sorted(reasons) == ["ct_train_1001_image.nii.gz", "ct_train_1002_image.nii.gz"]
    assert reasons["ct_train_1001_image.nii.gz"].endswith(
        f"is taken by {source / 'backup' / 'ct_train_1001_image.nii.gz'}"
    )
