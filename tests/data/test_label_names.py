# SPDX-License-Identifier: Apache-2.0
"""The labels of a data set: those that dataset.json states, otherwise those that occur in the label maps."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

from custom.data import label_values, labels_of

DEFAULT = {"ventricle": 500, "aorta": 820}


@pytest.fixture
def write(tmp_path: Path):
    """Function of the values of each label map: a folder of images and labels."""

    def make(*maps: list[int]) -> Path:
        for number, values in enumerate(maps):
            array = np.zeros((4, 4, 4), dtype=np.int16)
            array.flat[: len(values)] = values
            for folder, volume in (("images", np.arange(64).reshape(4, 4, 4)), ("labels", array)):
                (tmp_path / folder).mkdir(exist_ok=True)
                image = nibabel.Nifti1Image(volume.astype(np.int16), np.eye(4))
                nibabel.save(image, tmp_path / folder / f"{number}.nii.gz")
        return tmp_path

    return make


def state(folder: Path, **content) -> Path:
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def test_values_of_the_maps_get_names_of_their_own(write):
    folder = write([2], [1, 2], [])
    assert labels_of(str(folder), DEFAULT) == {"label_1": 1, "label_2": 2}
    assert label_values(str(folder), [500]) == [1, 2]


def test_regions_do_not_stop_pre_training(write, caplog):
    """It measures with the values of the maps, and needs none."""
    folder = str(state(write([1, 2], [2]), labels={"background": 0, "whole": [1, 2], "ignore": 3}, numTraining=2))
    with pytest.raises(ValueError, match="labels holds"):
        labels_of(folder, DEFAULT)
    assert label_values(folder, [500]) == [1, 2]
    assert "Pre-training measures with the values that occur in the label maps" in caplog.text


def test_known_values_have_their_names_and_absent_ones_are_left_out(write):
    folder = str(write([820, 421], [820]))
    assert labels_of(folder, DEFAULT, background=[421]) == {"aorta": 820}
    assert labels_of(folder, DEFAULT) == {"label_421": 421, "label_820": 820}


@pytest.mark.parametrize(
    "labels",
    [
        {"0": "background", "1": "anterior", "2": "posterior"},  # Decathlon
        {"background": 0, "anterior": 1, "posterior": 2},  # nnU-Net 2
        {"background": 0, "anterior": "1", "posterior": 2},
    ],
)
def test_the_data_set_states_its_labels(write, labels):
    folder = state(write([1]), labels=labels, numTraining=1)
    assert labels_of(str(folder), DEFAULT) == {"anterior": 1, "posterior": 2}


def test_lists_without_labels_entry_are_read(write):
    entries = [{"image": f"images/{n}.nii.gz", "label": f"labels/{n}.nii.gz"} for n in range(2)]
    folder = state(write([1], [500], [9]), training=entries[:1], test=entries[1:])
    assert labels_of(str(folder), DEFAULT) == {"label_1": 1, "label_500": 500}


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({}, {"label_0": 0, "label_3": 3}),
        ({"labels": {"0": "benign", "3": "malignant"}}, {"benign": 0, "malignant": 3}),
    ],
)
def test_classes_of_volumes_include_0(write, stated, expected):
    entries = [{"image": f"images/{n}.nii.gz", "label": 3 * n} for n in range(2)]
    assert labels_of(str(state(write([], []), training=entries, **stated)), DEFAULT) == expected


def test_known_classes_are_all_expected_and_one_class_is_refused(write):
    known = {"healthy": 0, "sick": 1}
    entries = [{"image": f"images/{n}.nii.gz", "label": 1} for n in range(2)]
    folder = str(state(write([], []), training=entries))
    assert labels_of(folder, known) == known  # the data tell which one is absent
    with pytest.raises(ValueError, match="all 2 volumes have the class 1, expected two classes or more"):
        labels_of(folder, {"ball": 7})


def test_a_value_of_one_map_among_many_is_a_warning(write, caplog):
    assert len(labels_of(str(write([500], [500], [500], [500, 77])), DEFAULT)) == 2
    assert "only one of 4 label maps has {'label_77': 77}; if this is a mistake" in caplog.text


@pytest.mark.parametrize("values", [[-3, 1], list(range(64)) * 5])
def test_values_that_are_no_structures_are_refused(write, values, monkeypatch):
    monkeypatch.setattr("custom.data.label_names.MOST_STRUCTURES", 50)
    folder = write([1], values[:64])
    with pytest.raises(
        ValueError, match=r"labels/1.nii.gz: \d+ label values from .* expected a label map of at most 50"
    ):
        labels_of(str(folder), DEFAULT)


def test_the_background_is_no_structure(write, monkeypatch):
    monkeypatch.setattr("custom.data.label_names.MOST_STRUCTURES", 3)
    folder = str(write([1, 2, 3, 9]))
    assert len(labels_of(folder, DEFAULT, background=[9])) == 3
    with pytest.raises(ValueError, match="labels/0.nii.gz: 4 label values from 1 to 9, expected .* of at most 3"):
        labels_of(folder, DEFAULT)


@pytest.mark.parametrize(
    ("stated", "source"), [({}, "2 label maps"), ({"numTraining": 2, "labels": {"background": 0}}, "dataset.json")]
)
def test_background_alone_is_refused(write, stated, source):
    folder = state(write([], [9]), **stated) if stated else write([], [9])
    found = rf"{folder}: only the background \[0, 9\] in {source}, expected one structure or more"
    with pytest.raises(ValueError, match=found):
        labels_of(str(folder), DEFAULT, background=[9])


def test_regions_and_ignored_voxels_are_refused_by_name(write):
    wrong = ({"whole": [1, 2]}, {"tumor": 1, "ignore": 2}, {"tumor": 1.5}, {"tumor": True}, {"rest": 0, "tumor": "--1"})
    for labels in wrong:
        folder = state(write([1]), labels=labels, numTraining=1)
        with pytest.raises(ValueError, match="dataset.json: labels holds .*expected one whole number.*--labels"):
            labels_of(str(folder), DEFAULT)
    with pytest.raises(ValueError, match=r"dataset.json: labels is \['tumor'\]"):
        labels_of(str(state(write([1]), labels=["tumor"], numTraining=1)), DEFAULT)


def test_the_cohort_an_unlabelled_folder_and_none_have_the_labels_of_the_config(write, tmp_path):
    folder = write([1])
    assert labels_of(str(folder), DEFAULT, cohort=SimpleNamespace(root=str(folder))) == DEFAULT
    (folder / "labels" / "0.nii.gz").unlink()
    assert labels_of(str(folder), DEFAULT) == DEFAULT
    assert labels_of(str(tmp_path / "absent"), DEFAULT) == DEFAULT


def test_a_damaged_label_map_is_named(write):
    folder = write([1])
    (folder / "labels" / "0.nii.gz").write_bytes(b"no volume")
    with pytest.raises(ValueError, match=r"labels/0.nii.gz"):
        labels_of(str(folder), DEFAULT)


CLASSES = {"no COVID-19": 0, "COVID-19": 1}


def test_folders_name_the_classes_of_volumes(tmp_path):
    for name in ("stage 10", "stage 2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.nii").write_bytes(b"")
    assert labels_of(str(tmp_path), CLASSES, of_volumes=True) == {"stage 2": 0, "stage 10": 1}
    assert labels_of(str(tmp_path), CLASSES) == CLASSES  # there are no label maps
    (tmp_path / "loose.nii").write_bytes(b"")
    assert labels_of(str(tmp_path), CLASSES, of_volumes=True) == CLASSES
    for name, known in zip(("stage 10", "stage 2"), CLASSES, strict=True):
        (tmp_path / name).rename(tmp_path / known)
    (tmp_path / "loose.nii").unlink()
    assert labels_of(str(tmp_path), CLASSES, of_volumes=True) == CLASSES


@pytest.mark.parametrize("name", ["dataset.csv", "other.csv"])
def test_a_table_names_classes_or_has_label_maps(write, name):
    folder = write([3], [1, 3])
    path = str(folder if name == "dataset.csv" else folder / name)
    (folder / name).write_text("image,label\nimages/0.nii.gz,ill\nimages/1.nii.gz,healthy")
    assert labels_of(path, CLASSES, of_volumes=True) == {"healthy": 0, "ill": 1}
    (folder / name).write_text("image,label\nimages/0.nii.gz,7\nimages/1.nii.gz,5")
    assert labels_of(path, CLASSES, of_volumes=True) == {"label_5": 5, "label_7": 7}
    (folder / name).write_text("image,label\nimages/0.nii.gz,labels/0.nii.gz")
    assert labels_of(path, DEFAULT) == {"label_3": 3}


def test_the_cases_that_nnunet_lists_have_label_maps(write):
    cases = {str(n): {"images": [f"images/{n}.nii.gz"], "label": f"labels/{n}.nii.gz"} for n in range(2)}
    folder = state(write([1], [2], [3]), dataset=cases, numTraining=2)
    assert labels_of(str(folder), DEFAULT) == {"label_1": 1, "label_2": 2}
