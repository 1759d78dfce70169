# SPDX-License-Identifier: Apache-2.0
"""MUSE on small files: values of FreeSurfer, structures on the midline, copies without skull, both layouts."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from prepared import command_line, listed, touch, unusable_files

from custom.labels import BRAIN_LABELS
from custom.preparation import prepare_muse
from custom.preparation.muse import CORTEX, STRUCTURES, find_muse

SHAPE = (20, 16, 12)


def write_head(image: Path, label: Path, values: np.ndarray) -> None:
    """A head of intensity 5 around a brain of intensity 9, both as large as the label map allows."""
    intensities = np.where(values > 0, 9, 5).astype(np.int16)
    for path, array in ((image, intensities), (label, values.astype(np.int16))):
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(array, np.diag([2.0, 2.0, 2.0, 1.0])), path)


def halves() -> np.ndarray:
    """White matter, left (45) and right (44), with one plane of corpus callosum (95) and the CSF (1) beside them."""
    values = np.zeros(SHAPE, int)
    values[4:10, 4:12, 4:8] = 45
    values[10:16, 4:12, 4:8] = 44
    values[9:11, 6, 5] = 95
    values[4, 4, 4] = 1
    return values


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for number in range(5):
        write_head(tmp_path / "in" / f"s{number}.nii.gz", tmp_path / "in" / f"s{number}_DLMUSE.nii.gz", halves())
    return tmp_path / "in"


def read(path: Path) -> np.ndarray:
    return np.asanyarray(nibabel.load(path).dataobj)


def test_both_images_of_a_person_are_in_one_list(source: Path, tmp_path: Path) -> None:
    prepare_muse(str(source), str(tmp_path / "out"), workers=0)
    content = listed(tmp_path / "out")
    assert [len(content[part]) for part in ("training", "validation", "test")] == [6, 2, 2]
    subjects = [[item["subject"] for item in content[part]] for part in ("training", "validation", "test")]
    assert sorted(sum((sorted(set(part)) for part in subjects), [])) == [f"s{number}" for number in range(5)]
    assert all(part.count(name) == 2 for part in subjects for name in part)
    assert content["labels"]["2"] == "left_cerebral_white_matter"


def test_values_and_midline(source: Path, tmp_path: Path) -> None:
    """The corpus callosum goes to the nearer side, the CSF to the background."""
    prepare_muse(str(source), str(tmp_path / "out"), workers=0)
    label = read(tmp_path / "out" / "labels" / "s0.nii.gz")
    assert label[9, 6, 5] == 2 and label[10, 6, 5] == 41 and label[4, 4, 4] == 0
    assert (label == 2).sum() == 6 * 8 * 4 - 1 and (label == 41).sum() == 6 * 8 * 4


def test_copy_without_skull(source: Path, tmp_path: Path) -> None:
    prepare_muse(str(source), str(tmp_path / "out"), workers=0)
    image, stripped = (read(tmp_path / "out" / name / "s0.nii.gz") for name in ("images", "stripped"))
    np.testing.assert_array_equal(image, read(source / "s0.nii.gz"))
    np.testing.assert_array_equal(stripped, np.where(halves() > 0, 9, 0))
    prepare_muse(str(source), str(tmp_path / "whole"), stripped=False, workers=0)
    assert not (tmp_path / "whole" / "stripped").exists() and len(listed(tmp_path / "whole")["training"]) == 3
    prepare_muse(str(source), str(tmp_path / "brains"), skull=False, workers=0)
    assert not (tmp_path / "brains" / "images").exists()
    assert [item["image"] for item in listed(tmp_path / "brains")["training"]] == [
        item["image"].replace("images", "stripped") for item in listed(tmp_path / "whole")["training"]
    ]
    prepare_muse(str(source), str(tmp_path / "tests"), stripped=False, test_alone=True, workers=0)
    content = json.loads((tmp_path / "tests" / "dataset.json").read_text())
    assert len(content["test"]) == content["numTest"] == 5 and content["training"] == []
    with pytest.raises(ValueError, match="skull and stripped are both False"):
        prepare_muse(str(source), str(tmp_path / "nothing"), skull=False, stripped=False, workers=0)


def test_folders_of_images_and_labels(tmp_path: Path) -> None:
    for name in ("1000", "1002", "1004"):
        write_head(tmp_path / "images" / f"{name}.nii.gz", tmp_path / "labels" / f"{name}.nii.gz", halves())
    prepare_muse(str(tmp_path), str(tmp_path / "out"), workers=0)
    assert len(listed(tmp_path / "out")["training"]) == 2


@pytest.mark.parametrize(
    ("image", "label"), [("{}", "{}_DLMUSE"), ("images/{}", "labels/{}")], ids=["one folder", "two folders"]
)
def test_names_suffixes_and_what_cannot_be_used(image: str, label: str, tmp_path: Path) -> None:
    names = [(image, "sub.01.nii.gz"), (label, "sub.01.nii.gz"), (image, "sub.02.nii"), (label, "sub.02.nii.gz")]
    names += [(label, "sub.02.nii"), (label, "alone.nii.gz"), (image, "._junk.nii.gz"), (label, "._junk.nii.gz")]
    names += [(label, "sub.01.nii.md5")]
    paths = []
    for pattern, name in names:
        base, suffix = name.split(".nii")
        paths.append(tmp_path / f"{pattern.format(base)}.nii{suffix}")
    touch(*paths)
    found, unusable = find_muse(tmp_path)
    assert found == {
        "sub.01": {"image": str(paths[0]), "label": str(paths[1])},
        "sub.02": {"image": str(paths[2]), "label": str(paths[4])},
    }
    assert unusable == {
        str(paths[3]): f"the name sub.02 is taken by {paths[2]}",
        str(paths[5]): f"no alone.nii.gz in {paths[0].parent}",
    }


def test_label_maps_without_image_are_reported(source: Path, tmp_path: Path) -> None:
    (source / "s0.nii.gz").unlink()
    assert "4 cases ready" in command_line("muse", source, tmp_path / "out")
    assert unusable_files(tmp_path / "out") == {"s0_DLMUSE.nii.gz": f"no s0.nii.gz in {source}"}


def test_a_label_map_off_by_a_little_is_written_on_the_grid_of_its_image(source: Path, tmp_path: Path) -> None:
    shifted = np.diag([2.0, 2.0, 2.0, 1.0])
    shifted[0, 3] = 0.5
    nibabel.save(nibabel.Nifti1Image(halves().astype(np.int16), shifted), source / "s0_DLMUSE.nii.gz")
    prepare_muse(str(source), str(tmp_path / "out"), workers=0)
    image, label = (nibabel.load(tmp_path / "out" / folder / "s0.nii.gz") for folder in ("images", "labels"))
    np.testing.assert_array_equal(image.affine, label.affine)


def test_no_value_stands_for_two_structures() -> None:
    values = [value for chosen in STRUCTURES.values() for value in chosen]
    assert len(values) == len(set(values)) and set(CORTEX) <= set(values) and set(BRAIN_LABELS) == set(STRUCTURES)


def test_a_map_of_other_values_is_reported(source: Path, tmp_path: Path) -> None:
    write_head(source / "s9.nii.gz", source / "s9_DLMUSE.nii.gz", 2000 * (halves() > 0))
    assert "5 cases ready" in command_line("muse", source, tmp_path / "out")
    assert "expected those of MUSE" in str(unusable_files(tmp_path / "out"))
    with pytest.raises(ValueError, match="holds no NAME.nii.gz"):
        prepare_muse(str(tmp_path), str(tmp_path / "none"))
