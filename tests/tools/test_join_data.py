# SPDX-License-Identifier: Apache-2.0
"""join_data: the lists of several labelled data sets as one, with the volumes where they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from custom.data import labelled_data
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
