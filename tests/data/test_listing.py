# SPDX-License-Identifier: Apache-2.0
"""dataset.csv: columns, classes, splits and channels; two lists at once; and class folders, which need no list."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from custom.data import find_volumes, inference_data, labelled_data, pretraining_data

CLASSES = {"healthy": 0, "ill": 1}


def table(root: Path, text: str, *files: str, name: str = "dataset.csv") -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"")
    (root / name).write_text(text, encoding="utf-8")
    return root


def names(items) -> list[str]:
    return [os.path.basename(item["image"]) for item in items]


def test_a_table_has_images_label_maps_subjects_and_splits(tmp_path, caplog):
    lines = ["image,label,subject,split,age", "a.nii, l/a.nii, p1, train, 30", "b.nii,l/b.nii,p1,,40"]
    lines += ["c.nii,l/c.nii,p2,training,", "d.nii,l/d.nii,,val,1", "e.nii,l/e.nii,p4,test,1"]
    files = [f"{folder}{case}.nii" for case in "abcde" for folder in ("", "l/")]
    table(tmp_path, "\ufeff" + "\n".join(lines) + "\n", *files)
    with caplog.at_level(logging.INFO):
        data = labelled_data(str(tmp_path))
    assert data["training"][0] == {
        "image": str(tmp_path / "a.nii"),
        "label": str(tmp_path / "l/a.nii"),
        "subject": "p1",
    }
    assert [item["subject"] for item in data["training"]] == ["p1", "p1", "p2"]
    assert names(data["validation"]) == ["d.nii"] and data["validation"][0]["subject"] == "d"
    assert names(data["test"]) == ["e.nii"]
    assert "layout dataset.csv" in caplog.text and "4 subjects" in caplog.text


def test_a_table_of_any_name_and_place_is_for_every_task(tmp_path):
    files = [f"data/{number}.nii" for number in range(6)]
    table(tmp_path, "image\n" + "\n".join(files), *files, name="volumes.csv")
    path = str(tmp_path / "volumes.csv")
    assert [item["output"] for item in inference_data(path)] == [f"data/{number}" for number in range(6)]
    assert len(pretraining_data(path, validation=2)["training"]) == 4


def test_labels_are_classes_by_number_or_by_name(tmp_path):
    labels = {0: "1", 1: "healthy", 2: "0", 3: "ill"}
    text = "image,label,split\n" + "".join(f"{n}.nii,{label},{'test' * (n == 3)}\n" for n, label in labels.items())
    table(tmp_path, text, *(f"{n}.nii" for n in range(4)))
    data = labelled_data(str(tmp_path), validation=1, test=0, classes=CLASSES)
    assert [len(data[part]) for part in ("training", "validation", "test")] == [2, 1, 1]
    found = {names([item])[0]: item["label"] for part in data.values() for item in part}
    assert found == {"0.nii": 1, "1.nii": 0, "2.nii": 0, "3.nii": 1}
    assert all("label" not in item for item in find_volumes(tmp_path))
    with pytest.raises(ValueError, match="line 5: label is 'ill', expected a number, 'healthy' or 'sick'"):
        labelled_data(str(tmp_path), classes={"healthy": 0, "sick": 1})
    table(tmp_path, "image,label\n0.nii,-1\n1.nii,--1")
    with pytest.raises(ValueError, match="line 3: label is '--1', expected a number, 'healthy' or 'ill'"):
        labelled_data(str(tmp_path), classes=CLASSES)


def test_a_column_for_each_channel(tmp_path):
    table(tmp_path, "image_0001,image_0000\na1.nii,a0.nii\nb1.nii,b0.nii", "a0.nii", "a1.nii", "b0.nii", "b1.nii")
    items = find_volumes(tmp_path, channels=2)
    assert [tuple(map(os.path.basename, item["image"])) for item in items] == [
        ("a0.nii", "a1.nii"),
        ("b0.nii", "b1.nii"),
    ]
    with pytest.raises(ValueError, match=r"line 2.image: 2 files, .*, expected 1, one a channel \(in_channels\)"):
        find_volumes(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.nii,1", r"dataset.csv: columns \['path', 'label'\], expected image or image_0000"),
        ("image,image_0000\na.nii,a.nii", "expected image or image_0000, image_0001, ..., each once"),
        ("image;label\na.nii;1", r"columns \['image;label'\], expected image"),
        ("", r"columns \[\], expected image"),
        ("image,split\na.nii,holdout", "line 2: split is 'holdout', expected training, validation or test"),
        ("image,label\na.nii\n", "line 2 has not 2 fields, expected image, label"),
        ("image\na.nii,b.nii\n", "line 2 has not 1 fields"),
        ("image,label\na.nii,\ngone.nii,1", r"1 of 2 entries cannot be used:\n  line 3.image: 'gone.nii', expected an"),
        ("image,label\n,1", r"line 2: {'label': 1}, expected a path or an object with the key image"),
    ],
)
def test_errors_in_a_table_name_the_line(text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        find_volumes(table(tmp_path, text, "a.nii", "b.nii"))


def test_two_lists_of_one_data_set_are_refused(tmp_path):
    table(tmp_path, "image\na.nii", "a.nii", "b.nii")
    (tmp_path / "dataset.json").write_text(json.dumps({"training": ["a.nii", "b.nii"]}))
    for read in (find_volumes, inference_data, labelled_data, pretraining_data):
        with pytest.raises(ValueError, match="holds dataset.json and dataset.csv, expected one of them"):
            read(str(tmp_path))


def folders(root: Path, *names: str) -> str:
    for name in names:
        for number in range(4):
            path = root / name / f"{name}{number}.nii"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    return str(root)


def test_the_class_of_a_volume_is_its_folder(tmp_path):
    data = labelled_data(folders(tmp_path, *CLASSES), validation=2, test=2, classes=CLASSES)
    items = [item for part in data.values() for item in part]
    assert len(items) == 8 and [len(data[part]) for part in ("training", "validation", "test")] == [4, 2, 2]
    assert all(item["label"] == CLASSES[item["subject"].split("/")[0]] for item in items)


def test_folders_that_are_no_classes_are_named(tmp_path):
    folders(tmp_path, *CLASSES, "unsure")
    (tmp_path / "loose.nii").write_bytes(b"")
    with pytest.raises(ValueError) as error:
        labelled_data(str(tmp_path), classes=CLASSES)
    assert "5 of 13 volumes have no label (4 in healthy, 4 in ill, 1 in no folder, 4 in unsure)" in str(error.value)
    assert "expected a folder for each class, 'healthy' and 'ill' (--labels names them)" in str(error.value)
