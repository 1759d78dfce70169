# SPDX-License-Identifier: Apache-2.0
"""Layouts without lists: subjects that are one person, label maps that are no images, names that are refused."""

from __future__ import annotations

import cProfile
import json
import logging
import os
import pstats
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from custom.data import find_volumes, inference_data, labelled_data, pretraining_data
from custom.data.layout import find_layout

EACH_OF_TWO = ("1", "2")


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


LAYOUTS = {  # files -> image: (subject, label)
    "BIDS": (
        ["sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz", "sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz"]
        + ["sub-02/anat/sub-02_T1w.nii.gz", "derivatives/fs/sub-02/anat/sub-02_desc-x_T1w.nii.gz"]
        + ["derivatives/fs/sub-02/anat/sub-02_desc-x_dseg.nii.gz"],
        {
            "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz": ("sub-01", None),
            "sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz": ("sub-01", None),
            "sub-02/anat/sub-02_T1w.nii.gz": ("sub-02", None),
            "derivatives/fs/sub-02/anat/sub-02_desc-x_T1w.nii.gz": (
                "sub-02",
                "derivatives/fs/sub-02/anat/sub-02_desc-x_dseg.nii.gz",
            ),
        },
    ),
    "BIDS in one folder": (
        ["images/sub-01_ses-1_T1w.nii", "images/sub-01_ses-2_T1w.nii", "labels/sub-01_ses-1_T1w.nii"],
        {
            "images/sub-01_ses-1_T1w.nii": ("sub-01", "labels/sub-01_ses-1_T1w.nii"),
            "images/sub-01_ses-2_T1w.nii": ("sub-01", None),
        },
    ),
    "sessions": (["P1/ses-1/x.nii", "P1/ses-2/x.nii"], {f"P1/ses-{n}/x.nii": ("P1", None) for n in EACH_OF_TWO}),
    "Decathlon": (
        ["imagesTr/la_003.nii.gz", "imagesTr/la_004.nii.gz", "labelsTr/la_003.nii.gz", "imagesTs/la_001.nii.gz"],
        {"imagesTr/la_003.nii.gz": ("la_003", "labelsTr/la_003.nii.gz"), "imagesTr/la_004.nii.gz": ("la_004", None)},
    ),
    "nnU-Net": (
        [f"imagesTr/{case}_000{channel}.nii.gz" for case in "ab" for channel in range(2)]
        + ["labelsTr/a.nii.gz", "labelsTr/b.nii.gz"],
        {
            f"imagesTr/{case}_000{channel}.nii.gz": (case, f"labelsTr/{case}.nii.gz")
            for case in "ab"
            for channel in range(2)
        },
    ),
    "numbers that are no channels": (
        ["imagesTr/p_0000.nii", "imagesTr/p_0001.nii", "labelsTr/p_0000.nii", "labelsTr/p_0001.nii"],
        {f"imagesTr/p_000{n}.nii": (f"p_000{n}", f"labelsTr/p_000{n}.nii") for n in range(2)},
    ),
    "numbers of one name": (["p_0000.nii", "p_0001.nii"], {f"p_000{n}.nii": (f"p_000{n}", None) for n in range(2)}),
    "BraTS 2020": (
        [f"BraTS20_00{n}/BraTS20_00{n}_{m}.nii.gz" for n in EACH_OF_TWO for m in ("flair", "t1ce", "seg")],
        {
            f"BraTS20_00{n}/BraTS20_00{n}_{m}.nii.gz": (f"BraTS20_00{n}", f"BraTS20_00{n}/BraTS20_00{n}_seg.nii.gz")
            for n in EACH_OF_TWO
            for m in ("flair", "t1ce")
        },
    ),
    "BraTS without labels": (
        [f"V_00{n}/V_00{n}_{m}.nii.gz" for n in EACH_OF_TWO for m in ("flair", "t1")],
        {f"V_00{n}/V_00{n}_{m}.nii.gz": (f"V_00{n}", None) for n in EACH_OF_TWO for m in ("flair", "t1")},
    ),
    "BraTS 2023, two time points": (
        [f"BraTS-GLI-00005-00{n}/BraTS-GLI-00005-00{n}-{m}.nii.gz" for n in "01" for m in ("t2f", "seg")],
        {
            f"BraTS-GLI-00005-00{n}/BraTS-GLI-00005-00{n}-t2f.nii.gz": (
                "BraTS-GLI-00005",
                f"BraTS-GLI-00005-00{n}/BraTS-GLI-00005-00{n}-seg.nii.gz",
            )
            for n in "01"
        },
    ),
    "KiTS": (
        [f"case_{n}/{name}.nii.gz" for n in EACH_OF_TWO for name in ("imaging", "segmentation")],
        {f"case_{n}/imaging.nii.gz": (f"case_{n}", f"case_{n}/segmentation.nii.gz") for n in EACH_OF_TWO},
    ),
    "LiTS": (
        [f"{name}-{n}.nii" for n in EACH_OF_TWO for name in ("volume", "segmentation")],
        {f"volume-{n}.nii": (f"volume-{n}", f"segmentation-{n}.nii") for n in EACH_OF_TWO},
    ),
    "BIDS with label maps in derivatives": (
        [f"sub-01/ses-{n}/anat/sub-01_ses-{n}_{m}.nii.gz" for n in EACH_OF_TWO for m in ("T1w", "acq-low_T2w")]
        + ["derivatives/manual/sub-01/ses-1/anat/sub-01_ses-1_space-orig_label-lesion_mask.nii.gz"]
        + ["derivatives/manual/sub-01/ses-2/anat/sub-01_ses-2_acq-low_T2w_dseg.nii.gz"]
        + ["derivatives/fmriprep/sub-01/ses-1/anat/sub-01_ses-1_desc-brain_mask.nii.gz"]
        + ["derivatives/fmriprep/sub-01/ses-2/anat/sub-01_ses-2_space-MNI152_dseg.nii.gz"]
        + ["sub-01/ses-1/func/sub-01_ses-1_task-rest_bold.nii.gz", "sub-01/ses-1/dwi/sub-01_ses-1_dwi.nii.gz"],
        {
            "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz": (
                "sub-01",
                "derivatives/manual/sub-01/ses-1/anat/sub-01_ses-1_space-orig_label-lesion_mask.nii.gz",
            ),
            "sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz": ("sub-01", None),
            "sub-01/ses-1/anat/sub-01_ses-1_acq-low_T2w.nii.gz": ("sub-01", None),
            "sub-01/ses-2/anat/sub-01_ses-2_acq-low_T2w.nii.gz": (
                "sub-01",
                "derivatives/manual/sub-01/ses-2/anat/sub-01_ses-2_acq-low_T2w_dseg.nii.gz",
            ),
        },
    ),
    "images and masks": (
        [f"images/{n}.nii" for n in EACH_OF_TWO] + [f"masks/{n}.nrrd" for n in EACH_OF_TWO],
        {f"images/{n}.nii": (n, f"masks/{n}.nrrd") for n in EACH_OF_TWO},
    ),
    "sequences in folders": (
        [f"00{n}/{m}.nii" for n in EACH_OF_TWO for m in ("t1", "FLAIR")],
        {f"00{n}/{m}.nii": (f"00{n}", None) for n in EACH_OF_TWO for m in ("t1", "FLAIR")},
    ),
    "sequences in names": (
        [f"IXI00{n}-{m}.nii" for n in EACH_OF_TWO for m in ("T1", "T2")],
        {f"IXI00{n}-{m}.nii": (f"IXI00{n}", None) for n in EACH_OF_TWO for m in ("T1", "T2")},
    ),
    "label maps beside": (
        ["a.nii", "a_seg.nii", "a_1.nii", "a_1_label.nii", "b.nii"],
        {"a.nii": ("a", "a_seg.nii"), "a_1.nii": ("a_1", "a_1_label.nii"), "b.nii": ("b", None)},
    ),
    "channels beside a label map": (
        ["p1_0000.nii", "p1_0001.nii", "p1_seg.nii"],
        {f"p1_000{n}.nii": ("p1", "p1_seg.nii") for n in range(2)},
    ),
    "names that only begin like that of a label map": (
        ["p1.nii", "p1_t1.nii", "p1_followup.nii", "p1_followup_t1.nii", "p1_2.nii", "p1.b-3.nii", "p1_seg.nii"],
        {f"{name}.nii": ("p1", "p1_seg.nii") for name in ("p1", "p1_t1")}
        | {f"{name}.nii": ("p1", None) for name in ("p1_followup", "p1_followup_t1", "p1_2", "p1.b-3")},
    ),
    "fMRIPrep": (
        [f"sub-1/anat/sub-1_{name}.nii.gz" for name in ("desc-preproc_T1w", "dseg", "desc-brain_mask")]
        + [f"sub-1/anat/sub-1_space-MNI_{name}.nii.gz" for name in ("desc-preproc_T1w", "label-GM_probseg")],
        {
            "sub-1/anat/sub-1_desc-preproc_T1w.nii.gz": ("sub-1", "sub-1/anat/sub-1_dseg.nii.gz"),
            "sub-1/anat/sub-1_space-MNI_desc-preproc_T1w.nii.gz": ("sub-1", None),
        },
    ),
    "a folder with the name of its files": (
        [f"hippocampus/hippocampus_00{n}.nii" for n in EACH_OF_TWO],
        {f"hippocampus/hippocampus_00{n}.nii": (f"hippocampus/hippocampus_00{n}", None) for n in EACH_OF_TWO},
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_subjects_and_label_maps_of_a_layout(layout, tmp_path):
    files, expected = LAYOUTS[layout]
    items = find_volumes(make(tmp_path, *files), min_subjects=1)
    found = {}
    for item in items:
        label = os.path.relpath(item["label"], tmp_path) if "label" in item else None
        found[os.path.relpath(item["image"], tmp_path)] = (item["subject"], label)
    assert found == expected


def test_no_person_is_in_training_and_validation(tmp_path, caplog):
    names = [f"sub-0{s}/ses-{t}/anat/sub-0{s}_ses-{t}_T1w.nii.gz" for s in range(6) for t in EACH_OF_TWO]
    with caplog.at_level(logging.INFO):
        data = pretraining_data(str(make(tmp_path, *names)), validation=2, seed=0)
    held_out = {pair[f"{side}_subject"] for pair in data["validation"] for side in ("moving", "fixed")}
    assert held_out.isdisjoint(item["subject"] for item in data["training"]) and len(data["training"]) == 8
    assert "12 volumes of 6 subjects (by sub-* of BIDS), 0 with labels" in caplog.text


def test_label_maps_without_image_are_left_out_and_named(tmp_path, caplog):
    make(tmp_path, "a.nii", "a_probseg.nii", "b.nii", "c_seg.nii")
    assert [(item["subject"], "label" in item) for item in find_volumes(tmp_path)] == [("a", False), ("b", False)]
    assert "2 files have names of label maps and are left out: a_probseg.nii, c_seg.nii" in caplog.text


def test_images_whose_names_only_begin_like_that_of_a_label_map_are_named(tmp_path, caplog):
    find_volumes(make(tmp_path, "p1.nii", "p1_followup.nii", "p1_2.nii", "p1_seg.nii", "p2.nii", "p2_ct.nii"))
    (warning,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith(f"{tmp_path}: 2 images have no label map, because their names add more than a modality")
    assert warning.endswith("to the name of a label map: p1_2.nii (p1_seg.nii), p1_followup.nii (p1_seg.nii)")


def calls(function: Callable, *arguments: object) -> int:
    """The number of calls that a call makes, of functions of Python and of others."""
    profile = cProfile.Profile()
    profile.runcall(function, *arguments)
    return pstats.Stats(profile).total_calls


@pytest.mark.parametrize(
    "names",
    [
        ["p{}.nii", "p{}_seg.nii"],
        ["images/p{}.nii", "labels/p{}.nii"],
        ["sub-{0}/anat/sub-{0}_T1w.nii", "derivatives/fs/sub-{0}/anat/sub-{0}_dseg.nii"],
    ],
)
def test_listing_takes_time_in_proportion_to_the_number_of_pairs(names, tmp_path):
    found = []
    for pairs in (50, 200):
        root = make(tmp_path / str(pairs), *(name.format(number) for number in range(pairs) for name in names))
        volumes, _ = find_layout(str(root))
        assert len(volumes) == sum(len(volume.labels) for volume in volumes) == pairs
        found.append(calls(find_layout, str(root)))
    assert found[1] < 5 * found[0]


def series(folder: Path, patient: str) -> None:
    folder.mkdir(parents=True)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.PatientID = patient
    dataset.is_little_endian, dataset.is_implicit_VR = True, False  # pydicom 2 asks for it, as for the next line
    dataset.save_as(folder / "1.dcm", write_like_original=False)


LABELLED_TWICE = [
    ["images/a.nii", "labels/a.nii", "masks/a.nii"],
    ["images/a.nii", "labels/a.nii", "labels/a.nrrd"],
    ["a.nii", "a_seg.nii", "a_mask.nii"],
    ["sub-a/anat/sub-a_T1w.nii"] + [f"derivatives/{p}/sub-a/anat/sub-a_dseg.nii" for p in ("fs", "manual")],
]


@pytest.mark.parametrize("files", LABELLED_TWICE)
def test_two_label_maps_of_an_image_are_no_label_map_and_an_error_where_one_is_needed(files, tmp_path, caplog):
    make(tmp_path, *files, *(name.replace("a.nii", "b.nii") for name in files[:1]))
    items = find_volumes(tmp_path, min_subjects=1)
    assert all("label" not in item for item in items)
    both = " and ".join(files[1:]) if "mask" not in files[2] or "/" in files[2] else "a_mask.nii and a_seg.nii"
    assert "1 images have several label maps, of which none is used, such as" in caplog.text and both in caplog.text
    with pytest.raises(ValueError, match=f"1 images have several label maps, expected one each .*\n  .*{both}"):
        labelled_data(str(tmp_path))


def test_a_label_map_without_a_name_belongs_to_the_only_case_of_its_folder(tmp_path, caplog):
    """One template mask beside the images of several people is the label map of none of them."""
    make(tmp_path, "mask.nii", *(f"p{n}.nii" for n in range(1, 5)), "one/t1.nii", "one/flair.nii", "one/mask.nii")
    labels = {item["image"]: item.get("label") for item in find_volumes(tmp_path, min_subjects=1)}
    own = str(tmp_path / "one" / "mask.nii")
    assert labels == {str(tmp_path / f"p{n}.nii"): None for n in range(1, 5)} | {
        str(tmp_path / "one" / f"{name}.nii"): own for name in ("t1", "flair")
    }
    assert "1 files have names of label maps and are left out: mask.nii" in caplog.text


@pytest.mark.parametrize(
    ("files", "layout"),
    [
        (["sub-1/anat/sub-1_T1w.nii", "sub-2/anat/sub-2_T1w.nii"], "BIDS: 2 volumes of 2 subjects"),
        (["imagesTr/a_0000.nii", "imagesTr/b_0000.nii"], "nnU-Net folders: 2 volumes of 2 subjects"),
        (["images/a.nii", "images/b.nii", "labels/a.nii"], r"folders of images \(images\): 2 volumes of 2 subjects"),
        (["a.nii", "x/b.nii"], "files: 2 volumes of 2 subjects"),
    ],
)
def test_the_log_names_the_layout(files, layout, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        find_volumes(make(tmp_path, *files))
    assert re.search(f"layout {layout}", caplog.text)


def test_dicom_folders_of_one_patient_are_one_subject(tmp_path, caplog):
    for folder, patient in (("x/1", "P1"), ("y/2", "P1"), ("z/3", "P2"), ("none", "")):
        series(tmp_path / folder, patient)
    with caplog.at_level(logging.INFO):
        items = find_volumes(tmp_path)
    assert [item["subject"] for item in items] == ["none", "P1", "P1", "P2"]
    assert "4 volumes of 3 subjects (by path for 1, DICOM PatientID for 3)" in caplog.text


def test_lists_name_persons_by_the_same_rules(tmp_path):
    make(tmp_path, "sub-01/ses-1/a.nii", "sub-01/ses-2/a.nii", "sub-02/a.nii")
    names = ["sub-01/ses-1/a.nii", {"image": "sub-01/ses-2/a.nii", "subject": None}, "sub-02/a.nii"]
    (tmp_path / "dataset.json").write_text(json.dumps({"training": names}))
    assert [item["subject"] for item in find_volumes(tmp_path)] == ["sub-01", "sub-01", "sub-02"]


def test_a_folder_of_digits_is_a_number_on_the_command_line(tmp_path, monkeypatch):
    make(tmp_path / "2024", "a.nii", "b.nii", "c.nii", "d.nii")
    monkeypatch.chdir(tmp_path)
    assert len(inference_data(2024)) == len(find_volumes(2024)) == 4
    assert len(pretraining_data(2024, validation=2)["training"]) == 2
    for wrong in (1.5, None, True, ["a"]):
        with pytest.raises(TypeError, match="dataset_dir is .*, expected a path"):
            find_volumes(wrong)


def test_names_that_are_not_utf8_are_refused(tmp_path):
    make(tmp_path, "a.nii", "b.nii")
    with open(os.fsencode(tmp_path) + b"/caf\xe9.nii", "wb"):
        pass
    with pytest.raises(ValueError, match=r"1 file names are not UTF-8: 'caf\\udce9.nii'; expected names in UTF-8"):
        find_volumes(tmp_path)
    with pytest.raises(ValueError, match="1 file names are not UTF-8"):
        inference_data(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.nii"))


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        ("null", "dataset.json holds a JSON NoneType, expected an object"),
        ('{"training": null}', "dataset.json: training is None, expected"),
        ('{"training": [{"image": null}, "a.nii"]}', r"training\[0\]: {'image': None}, expected a path or an object"),
        ('{"training": ' + "[" * 100000 + "]" * 100000 + "}", "dataset.json is nested too deeply"),
        ('{"training": [' + "[" * 80 + "]" * 80 + "]}", r"training\[0\]: \[+\]*\.\.\., expected a path"),
        ('{"training": [{"image": "a.nii", "label": "1"}]}', "or a class as a number without quotes: 1"),
        ('{"tests": []}', r"no training among the keys \['tests'\], expected"),
    ],
)
def test_malformed_lists_are_named(content, finding, tmp_path):
    make(tmp_path, "a.nii").joinpath("dataset.json").write_text(content)
    with pytest.raises(ValueError, match=finding):
        find_volumes(tmp_path)


def test_a_byte_order_mark_is_read(tmp_path):
    make(tmp_path, "a.nii", "b.nii").joinpath("dataset.json").write_text(
        '\ufeff{"training": ["a.nii", "b.nii"]}', "utf-8"
    )
    assert len(find_volumes(tmp_path)) == 2
