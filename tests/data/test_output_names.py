# SPDX-License-Identifier: Apache-2.0
"""One output name for each volume, and the files of earlier runs among the input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from custom.data import find_volumes, inference_data
from custom.data.output_names import earlier_outputs, output_names


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["sub-01/ct.nii.gz", "sub-02/ct.nii.gz"], ["sub-01/ct", "sub-02/ct"]),
        (["a.mha", "a.nii.gz", "b.nii"], ["a.mha", "a.nii.gz", "b"]),
        (["a", "a.nii.gz", "a.nii.gz.nii.gz"], ["a", "a.nii.gz", "a.nii.gz.nii.gz"]),
        (["1.2.840.1", "1.2.840.2"], ["1.2.840.1", "1.2.840.2"]),  # folders of DICOM series
        (["a.NII.GZ", "a.nrrd"], ["a.NII.GZ", "a.nrrd"]),
        (["../other/a.nii.gz", "a.nii.gz"], ["_/other/a", "a"]),
    ],
)
def test_names_mirror_the_paths(paths: list[str], names: list[str], tmp_path: Path) -> None:
    assert output_names([str(tmp_path / path) for path in paths], tmp_path) == names
    backwards = output_names([str(tmp_path / path) for path in reversed(paths)], tmp_path)
    assert backwards == names[::-1]


def test_a_single_volume_and_a_folder_that_is_one_series(tmp_path: Path) -> None:
    assert output_names([str(tmp_path / "a.nii.gz")], tmp_path / "a.nii.gz") == ["a"]
    assert output_names([str(tmp_path / "series.1")], tmp_path / "series.1") == ["series.1"]


def test_a_volume_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected each volume once: .*a\.nii\.gz and .*a\.nii\.gz"):
        output_names([str(tmp_path / "a.nii.gz"), str(tmp_path / "b" / ".." / "a.nii.gz")], tmp_path)


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def images(items: list[dict]) -> list[str]:
    return [Path(item["image"]).name for item in items]


@pytest.mark.parametrize("report", ["report.json", "registration.json"])
def test_what_an_earlier_run_wrote_is_no_input(report: str, tmp_path: Path) -> None:
    touch(tmp_path / "a.nii.gz", tmp_path / "out" / "s" / "a_label.nii.gz", tmp_path / "out" / "b.nii.gz")
    (tmp_path / "out" / report).write_text(json.dumps({"outputs": ["s/a_label.nii.gz"]}))
    assert images(find_volumes(tmp_path, min_subjects=1)) == ["a.nii.gz", "b.nii.gz"]


def test_label_maps_that_were_made_to_be_trained_on_are_input(tmp_path: Path) -> None:
    touch(tmp_path / "a.nii.gz", tmp_path / "a_label.nii.gz")
    report = {"outputs": ["a_label.nii.gz"], "outputs_are_labels": True}
    (tmp_path / "report.json").write_text(json.dumps(report))
    (item,) = find_volumes(tmp_path, min_subjects=1)
    assert Path(item["label"]).name == "a_label.nii.gz"
    assert earlier_outputs(tmp_path) == {"a_label.nii.gz"}  # the next run in this folder replaces it


@pytest.mark.parametrize(
    "content", ["no JSON", "[1]", '{"outputs": 3}', '{"outputs": [1, "../a.nii.gz", "/a.nii.gz"]}']
)
def test_a_report_of_something_else_lists_nothing(content: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(content)
    assert earlier_outputs(tmp_path) == set()


def test_volumes_in_the_output_folder_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path / "a.nii.gz", tmp_path / "out" / "old.nii.gz", tmp_path / "out2" / "b.nii.gz")
    found = inference_data(str(tmp_path), output_dir=str(tmp_path / "out"))
    assert [item["output"] for item in found] == ["a", "out2/b"]
    assert "1 volumes in output_dir" in caplog.text
    assert len(inference_data(str(tmp_path), output_dir=str(tmp_path))) == 3  # only files of its own are output there
    assert len(inference_data(str(tmp_path), output_dir=str(tmp_path.parent))) == 3
    with pytest.raises(ValueError, match="holds no volume outside of output_dir"):
        (tmp_path / "a.nii.gz").unlink()
        (tmp_path / "out2" / "b.nii.gz").unlink()
        inference_data(str(tmp_path), output_dir=str(tmp_path / "out"))


def test_what_dataset_json_lists_is_input_wherever_it_lies(tmp_path: Path) -> None:
    touch(tmp_path / "out" / "a.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"training": [{"image": "out/a.nii.gz", "subject": "s"}]}))
    (item,) = inference_data(str(tmp_path), output_dir=str(tmp_path / "out"))
    assert (item["output"], item["subject"]) == ("out/a", "s")
