# SPDX-License-Identifier: Apache-2.0
"""join_data: the lists of several labelled data sets as one, with the volumes where they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from custom.data import labelled_data
from custom.data.dataset_json import stated_labels
from tools.join_data import join


def write(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.nii.gz").write_bytes(b"")


def with_lists(folder: Path) -> Path:
    """A data set with the subjects a for training and b for the test."""
    for kind in ("images", "labels"):
        write(folder / kind, ["a", "b"])
    entry = {name: {"image": f"./images/{name}.nii.gz", "label": f"./labels/{name}.nii.gz"} for name in "ab"}
    (folder / "dataset.json").write_text(json.dumps({"training": [entry["a"]], "test": [entry["b"]]}))
    return folder


def test_lists_are_joined_and_a_folder_joins_training(tmp_path):
    first, second = with_lists(tmp_path / "first"), tmp_path / "second"
    write(second, ["a", "a_label", "c", "c_label"])
    join([str(first), str(second)], str(tmp_path / "deep" / "joined"))
    data = labelled_data(str(tmp_path / "deep" / "joined"), validation=0)
    found = {part: [Path(item["image"]).resolve() for item in items] for part, items in data.items()}
    volumes = {
        name: path.resolve() for name, path in (("a", first / "images" / "a.nii.gz"), ("c", second / "c.nii.gz"))
    }
    assert found["training"] == [volumes["a"], (second / "a.nii.gz").resolve(), volumes["c"]]
    assert found["test"] == [(first / "images" / "b.nii.gz").resolve()] and found["validation"] == []
    assert all(Path(item["label"]).is_file() for item in data["training"])
    assert {item["subject"] for item in data["training"]} == {
        "first/images/a",
        "second/a",
        "second/c",
    }  # a twice, apart


def test_volumes_without_labels_are_refused(tmp_path):
    write(tmp_path / "second", ["a", "a_label", "c"])
    with pytest.raises(ValueError, match=r"1 of 2 volumes have no label, expected one each:\n  training: .*c\.nii\.gz"):
        join([str(tmp_path / "second")], str(tmp_path / "joined"))
    assert not (tmp_path / "joined").exists()


def test_a_text_is_one_source_or_several_with_commas(tmp_path):
    first, second = with_lists(tmp_path / "first"), tmp_path / "second"
    write(second, ["c", "c_label"])
    join(str(second), str(tmp_path / "one"))
    assert [item["subject"] for item in labelled_data(str(tmp_path / "one"), validation=0, test=0)["training"]] == [
        "second/c"
    ]
    join(f"{first}, {second}", str(tmp_path / "both"))
    found = labelled_data(str(tmp_path / "both"), validation=0)["training"]
    assert [item["subject"] for item in found] == ["first/images/a", "second/c"]
    with pytest.raises(ValueError, match="sources is empty, expected"):
        join("", str(tmp_path / "none"))


def test_sources_of_one_name_are_refused(tmp_path):
    """Their subjects would have the same names."""
    for name in "AB":
        write(tmp_path / name / "data", ["a", "a_label"])
    sources = [str(tmp_path / name / "data") for name in "AB"]
    with pytest.raises(ValueError, match=f"sources {sources[0]} and {sources[1]} have one name, 'data'"):
        join(sources, str(tmp_path / "joined"))


def test_a_volume_in_two_sources_is_refused(tmp_path):
    """One list would train on what another one tests."""
    first = with_lists(tmp_path / "first")
    second = tmp_path / "second"
    second.mkdir()
    write(second, ["b_label"])
    (second / "b.nii.gz").symlink_to(first / "images" / "b.nii.gz")
    with pytest.raises(ValueError, match=f"{second}: .*b.nii.gz is in {first}, too, expected each volume in one"):
        join([str(first), str(second)], str(tmp_path / "joined"))


def test_a_subject_in_two_lists_is_refused(tmp_path):
    first = with_lists(tmp_path / "first")
    lists = json.loads((first / "dataset.json").read_text())
    for items in lists.values():
        items[0]["subject"] = "the same"
    (first / "dataset.json").write_text(json.dumps(lists))
    with pytest.raises(ValueError, match="the same in training and test"):
        join(str(first), str(tmp_path / "joined"))


def state_labels(folder: Path, labels: dict) -> None:
    content = json.loads((folder / "dataset.json").read_text()) | {"labels": labels}
    (folder / "dataset.json").write_text(json.dumps(content))


def test_labels_on_which_the_sources_agree_are_kept(tmp_path):
    first, second, third = with_lists(tmp_path / "first"), with_lists(tmp_path / "second"), tmp_path / "third"
    state_labels(first, {"0": "background", "5": "left", "3": "right"})
    state_labels(second, {"right": 3, "left": 5})
    write(third, ["c", "c_label"])  # states none
    sources = [str(third), str(first), str(second)]
    join(sources, str(tmp_path / "joined"))
    stated = stated_labels(str(tmp_path / "joined" / "dataset.json"))
    assert list(stated.items()) == [("left", 5), ("right", 3)]
    state_labels(second, {"right": 5, "left": 3})
    with pytest.raises(ValueError, match=rf"{second} has the labels .*'right': 5.* expected those of {first}, "):
        join(sources, str(tmp_path / "joined"))


def test_classes_of_volumes_are_refused(tmp_path):
    write(tmp_path / "source", ["a"])
    (tmp_path / "source" / "dataset.json").write_text(json.dumps({"training": [{"image": "a.nii.gz", "label": 1}]}))
    with pytest.raises(ValueError, match=rf"^{tmp_path}/source: .*a.nii.gz has the class 1, expected a label map"):
        join(str(tmp_path / "source"), str(tmp_path / "joined"))
