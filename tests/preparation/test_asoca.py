# SPDX-License-Identifier: Apache-2.0
"""ASOCA as unpacked, on small NRRD files: layouts, crop, spacing, thin labels, split, bad files, resuming."""

from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest
from prepared import accept_what_exists, check_resuming, command_line, listed, touch, unusable_files
from scipy import ndimage

from custom.preparation import prepare_asoca
from custom.preparation.asoca import find_asoca

SPACING = np.array([0.8, 0.8, 1.25])
ORIGIN = np.array([-20.0, 15.0, -300.0])  # LPS millimetres
SHAPE = (50, 48, 24)


def vessel() -> np.ndarray:
    """An oblique tube of 3 mm diameter, in (x, y, z) order."""
    place = np.stack(np.indices(SHAPE), axis=-1) * SPACING - [20, 18, 15]
    direction = np.array([0.5, 0.4, 0.768])
    along = place @ direction
    return (np.linalg.norm(place - along[..., None] * direction, axis=-1) <= 1.5) & (np.abs(along) < 9)


def hu() -> np.ndarray:
    i, j, k = np.indices(SHAPE)
    return -1100 + 20 * i + 15 * j + 40 * k


def write(path: Path, array: np.ndarray, origin: np.ndarray = ORIGIN) -> None:
    image = itk.image_from_array(np.ascontiguousarray(array.astype(np.int16).transpose(2, 1, 0)))
    image.SetSpacing(SPACING.tolist())
    image.SetOrigin([float(value) for value in origin])
    path.parent.mkdir(parents=True, exist_ok=True)
    itk.imwrite(image, str(path), compression=True)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Four normal and four diseased volumes with annotations, two of the test set without."""
    root = tmp_path / "ASOCA"
    for group in ("Normal", "Diseased"):
        for number in range(1, 5):
            write(root / group / "CTCA" / f"{group}_{number}.nrrd", hu())
            write(root / group / "Annotations" / f"{group}_{number}.nrrd", vessel())
        write(root / f"Testset_{group}" / "CTCA" / "0.nrrd", hu())
    return root


def test_layout_and_split(source, output):
    report = prepare_asoca(str(source), str(output), workers=0)
    content = listed(output)
    assert len(report.ready) == 10 and not report.unusable
    assert [len(content[part]) for part in ("training", "validation", "test")] == [3, 1, 4]
    assert "scaled to 8" in content["split"]["note"]
    assert content["unlabelled"] == ["./images/Testset_Diseased_0.nii.gz", "./images/Testset_Normal_0.nii.gz"]
    assert content["labels"] == {"0": "background", "1": "coronary_arteries"}
    items = sum((content[part] for part in ("training", "validation", "test")), [])
    groups = {f"{group}_{number}": group for group in ("Normal", "Diseased") for number in range(1, 5)}
    assert {item["subject"]: item["group"] for item in items} == groups
    assert [item["group"] for item in content["test"]].count("Normal") == 2
    for item in items:
        assert (output / item["image"]).is_file() and (output / item["label"]).is_file()
    assert (output / content["unlabelled"][0]).is_file() and not list(output.rglob(".*.nii.gz"))


def test_forty_labelled_give_the_paper_s_split(tmp_path, output, monkeypatch):
    accept_what_exists(monkeypatch)
    for number in range(40):  # what an earlier run has done
        name = f"{('Normal', 'Diseased')[number % 2]}_{number}.nrrd"
        for folder, part in (("CTCA", "images"), ("Annotations", "labels")):
            touch(tmp_path / "in" / folder / name, (output / part / name).with_suffix(".nii.gz"))
    prepare_asoca(str(tmp_path / "in"), str(output), workers=0)
    content = listed(output)
    assert [len(content[part]) for part in ("training", "validation", "test", "unlabelled")] == [15, 5, 20, 0]
    assert content["split"]["note"] == "split: training 15, validation 5, test 20"
    for part in ("training", "validation", "test"):
        normal = [item["group"] for item in content[part]].count("Normal")
        assert abs(normal - len(content[part]) / 2) <= 0.5


@pytest.mark.parametrize(
    "image, annotation, name",
    [
        ("Normal/CTCA/Normal_1", "Normal/Annotations/Normal_1", "Normal_1"),
        ("a/b/Diseased/CTCA/7", "a/b/Diseased/Annotations/7", "Diseased_7"),
        ("CTCA/Diseased/7", "Annotations/Diseased/7", "Diseased_7"),
        ("CTCA/Normal_12", "Annotations/Normal_12", "Normal_12"),
        ("normal/ctca/3", "normal/annotations/3", "normal_3"),
        ("Testset/Normal/CTCA/3", None, "Testset_Normal_3"),
        ("Testset_Disease/3", None, "Testset_Disease_3"),
    ],
)
def test_folders_and_names(tmp_path, image, annotation, name):
    paths = {key: tmp_path / f"{path}.nrrd" for key, path in (("image", image), ("label", annotation)) if path}
    touch(*paths.values(), tmp_path / "Normal" / "CTCA" / "._Normal_1.nrrd")
    found, groups, unusable = find_asoca(tmp_path)
    assert found == {name: {key: str(path) for key, path in paths.items()}} and not unusable
    if annotation:
        assert groups[name] == ("Diseased" if "Diseased" in image else "Normal")


def test_crop_spacing_window_and_values(source, output):
    prepare_asoca(str(source), str(output), margin=4.0, workers=0)
    image, label = (nibabel.load(output / part / "Normal_2.nii.gz") for part in ("images", "labels"))
    assert image.get_data_dtype() == label.get_data_dtype() == np.int16
    assert nibabel.aff2axcodes(image.affine) == ("R", "A", "S") and image.shape == label.shape
    np.testing.assert_allclose(image.header.get_zooms(), 1.0, atol=1e-5)
    np.testing.assert_allclose(image.affine, label.affine)
    box = np.argwhere(vessel())
    wanted = (np.ptp(box, axis=0) + 1 + 2 * np.ceil(4.0 / SPACING)) * SPACING
    np.testing.assert_allclose(image.shape, wanted, atol=1.6)
    # the ramp of HU stays where it was in the patient, clipped to the window
    to_voxel = np.diag([*(1 / SPACING), 1.0]) @ np.diag([-1.0, -1.0, 1.0, 1.0])
    for place in (np.array(image.shape) // 2, np.array(image.shape) // 3):
        i, j, k = (to_voxel @ (image.affine @ [*place, 1] - [*(ORIGIN * [-1, -1, 1]), 0]))[:3]
        expected = np.clip(-1100 + 20 * i + 15 * j + 40 * k, -1024, 1024)
        assert image.get_fdata()[tuple(place)] == pytest.approx(expected, abs=1)
    whole = nibabel.load(output / "images" / "Testset_Normal_0.nii.gz")
    np.testing.assert_allclose(whole.shape, SHAPE * SPACING, atol=1.6)
    assert whole.get_fdata().min() == -1024 and whole.get_fdata().max() == 1024


def test_thin_vessels_stay_whole(source, output):
    prepare_asoca(str(source), str(output), workers=0)
    label = nibabel.load(output / "labels" / "Normal_1.nii.gz")
    array = label.get_fdata()
    assert set(np.unique(array)) == {0.0, 1.0}
    assert ndimage.label(array, np.ones((3, 3, 3)))[1] == 1
    assert array.sum() == pytest.approx(vessel().sum() * SPACING.prod(), rel=0.1)
    # the judge: scipy's linear interpolation of the annotation at the same places, cut at one half
    places = np.stack([*np.indices(array.shape), np.ones(array.shape)]).reshape(4, -1)
    millimetres = (label.affine @ places)[:3] * np.array([[-1], [-1], [1]])
    voxels = (millimetres - ORIGIN[:, None]) / SPACING[:, None]
    judged = ndimage.map_coordinates(vessel().astype(float), voxels, order=1, mode="nearest").reshape(array.shape)
    clear = np.abs(judged - 0.5) > 1e-3
    np.testing.assert_array_equal(array[clear] > 0, judged[clear] > 0.5)


def test_an_annotation_off_by_a_little_is_written_on_the_grid_of_its_image(source, output):
    write(source / "Normal" / "Annotations" / "Normal_2.nrrd", vessel(), ORIGIN + [0.3, 0, 0])
    prepare_asoca(str(source), str(output), workers=0)
    image, label, other = (
        nibabel.load(output / name)
        for name in ("images/Normal_2.nii.gz", "labels/Normal_2.nii.gz", "labels/Normal_1.nii.gz")
    )
    np.testing.assert_array_equal(image.affine, label.affine)
    np.testing.assert_array_equal(label.get_fdata(), other.get_fdata())


def test_bad_files_are_reported_and_the_others_go_on(source, output):
    annotations = source / "Normal" / "Annotations"
    image = source / "Normal" / "CTCA" / "Normal_1.nrrd"
    image.write_bytes(image.read_bytes()[:400])
    (annotations / "Normal_2.nrrd").unlink()
    write(annotations / "Normal_3.nrrd", vessel() * 2)
    write(annotations / "Normal_4.nrrd", vessel(), ORIGIN + [0.5, 0, 0])
    write(source / "Diseased" / "Annotations" / "Diseased_1.nrrd", np.zeros(SHAPE))
    (source / "Diseased" / "CTCA" / "Diseased_2.nrrd").unlink()
    write(source / "Diseased" / "CTCA" / "Diseased_5.nrrd", hu())
    write(source / "Diseased" / "Annotations" / "Diseased_5.nrrd", vessel())
    assert "5 cases ready" in command_line("asoca", source, output, "--workers", "0")
    reasons = {Path(name).stem: reason for name, reason in unusable_files(output).items()}
    assert set(reasons) == {*(f"Normal_{number}" for number in range(1, 5)), "Diseased_1", "Diseased_2"}
    assert "cannot be read" in reasons["Normal_1"] and "no annotation" in reasons["Normal_2"]
    assert "values [0, 2], expected 0 and [1]" in reasons["Normal_3"] and "values [0]," in reasons["Diseased_1"]
    assert all(f"{folder}/Normal_4.nrrd" in reasons["Normal_4"] for folder in ("CTCA", "Annotations"))
    assert "no image" in reasons["Diseased_2"]
    usable = [item["subject"] for part in ("training", "validation", "test") for item in listed(output)[part]]
    assert sorted(usable) == ["Diseased_3", "Diseased_4", "Diseased_5"]


def test_resumes_and_refuses_other_parameters(source, output):
    files = [output / "labels" / f"Diseased_{number}.nii.gz" for number in (1, 2)]
    check_resuming(lambda: prepare_asoca(str(source), str(output), workers=0), output, *files)
    with pytest.raises(ValueError, match="margin_mm"):
        prepare_asoca(str(source), str(output), margin=10.0, workers=0)


def test_missing_and_foreign_source(tmp_path, output):
    with pytest.raises(FileNotFoundError, match="absent"):
        prepare_asoca(str(tmp_path / "absent"), str(output))
    with pytest.raises(ValueError, match=r"CTCA/NAME\.nrrd"):
        prepare_asoca(str(tmp_path), str(output))
