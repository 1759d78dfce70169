# SPDX-License-Identifier: Apache-2.0
"""Files that are the channels of one image, in every layout that has such files, and cases that lack one."""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path

import pytest

from custom.data import find_volumes, fingerprint, inference_data, labelled_data, pretraining_data


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def relative(root: Path, image) -> str | tuple[str, ...]:
    return os.path.relpath(image, root) if isinstance(image, str) else tuple(os.path.relpath(p, root) for p in image)


NNUNET = [f"imagesTr/{case}_000{n}.nii.gz" for case in "ab" for n in range(3)] + ["labelsTr/a.nii.gz"]
LAYOUTS = {  # files -> image: (subject, label, name of the output)
    "nnU-Net": (
        NNUNET,
        {
            tuple(NNUNET[:3]): ("a", "labelsTr/a.nii.gz", "imagesTr/a"),
            tuple(NNUNET[3:6]): ("b", None, "imagesTr/b"),
        },
    ),
    "one case of nnU-Net": (NNUNET[:3], {tuple(NNUNET[:3]): ("a", None, "imagesTr/a")}),
    "BraTS 2020": (
        [f"B_00{n}/B_00{n}_{name}.nii" for n in "12" for name in ("t2", "flair", "t1ce", "seg")],
        {
            tuple(f"B_00{n}/B_00{n}_{m}.nii" for m in ("flair", "t1ce", "t2")): (
                f"B_00{n}",
                f"B_00{n}/B_00{n}_seg.nii",
                f"B_00{n}/B_00{n}",
            )
            for n in "12"
        },
    ),
    "BIDS": (
        [f"sub-1/ses-{n}/anat/sub-1_ses-{n}_{m}.nii" for n in "12" for m in ("T1w", "T2w", "FLAIR")]
        + ["derivatives/x/sub-1/ses-2/anat/sub-1_ses-2_dseg.nii"],
        {
            tuple(f"sub-1/ses-{n}/anat/sub-1_ses-{n}_{m}.nii" for m in ("FLAIR", "T1w", "T2w")): (
                "sub-1",
                "derivatives/x/sub-1/ses-2/anat/sub-1_ses-2_dseg.nii" if n == "2" else None,
                f"sub-1/ses-{n}/anat/sub-1_ses-{n}",
            )
            for n in "12"
        },
    ),
    "sequences in folders": (
        [f"{case}/{m}.nii" for case in "pq" for m in ("t1", "t2", "dwi")],
        {tuple(f"{case}/{m}.nii" for m in ("dwi", "t1", "t2")): (case, None, case) for case in "pq"},
    ),
    "sequences of one case": (["t1.nii", "t2.nii", "pd.nii"], {("pd.nii", "t1.nii", "t2.nii"): ("pd", None, "case")}),
    "files of four dimensions": (
        ["a_t1.nii", "BRATS_0001.nii", "BRATS_0002.nii"],
        {
            "a_t1.nii": ("a", None, "a_t1"),
            "BRATS_0001.nii": ("BRATS_0001", None, "BRATS_0001"),
            "BRATS_0002.nii": ("BRATS_0002", None, "BRATS_0002"),
        },
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_of_a_case_are_one_image(layout, tmp_path):
    files, expected = LAYOUTS[layout]
    root = make(tmp_path / "case", *files)
    items = find_volumes(root, min_subjects=1, channels=3)
    outputs = {item["image"]: item["output"] for item in inference_data(str(root), channels=3)}
    found = {
        relative(root, item["image"]): (
            item["subject"],
            relative(root, item["label"]) if "label" in item else None,
            outputs[item["image"]],
        )
        for item in items
    }
    assert found == expected


@pytest.mark.parametrize("layout", ["nnU-Net", "BraTS 2020"])
def test_with_one_channel_each_file_is_a_volume_and_the_log_says_so(layout, tmp_path, caplog):
    make(tmp_path, *LAYOUTS[layout][0])
    with caplog.at_level(logging.INFO):
        assert len(find_volumes(tmp_path)) == 6
    assert "is a volume of its own; --in_channels 3 reads them as the channels of one image" in caplog.text


@pytest.mark.parametrize(
    ("missing", "more", "channels", "message"),
    [
        (
            "imagesTr/b_0001.nii.gz",
            (),
            3,
            r"1 of 2 cases .* 3 \(0000, 0001, 0002; .*\n  imagesTr/b: 0000, 0002$",
        ),
        ("imagesTr/b_0001.nii.gz", ("imagesTr/b_0003.nii.gz",), 3, r"1 of 2 cases .*\n  .*b: 0000, 0002, 0003$"),
        ("labelsTr/a.nii.gz", (), 4, r"2 of 2 cases .* expected 4 \(one file for each; .*\n  .*a: 0000, 0001, 0002\n"),
    ],
)
def test_a_case_with_other_channels_is_named(missing, more, channels, message, tmp_path):
    make(tmp_path, *NNUNET, *more)
    (tmp_path / missing).unlink()
    with pytest.raises(ValueError, match=re.compile(message)):
        find_volumes(tmp_path, channels=channels)


def test_the_pairs_and_the_fingerprint_are_those_of_images(tmp_path):
    names = [f"{case}_000{n}.nii" for case in "abcdef" for n in range(2)]
    data = pretraining_data(str(make(tmp_path, *names)), channels=2, validation=2, validation_pairs=2)
    assert len(data["training"]) == 4 and all(len(item["image"]) == 2 for item in data["training"])
    assert all(len(pair[side]) == 2 for pair in data["validation"] for side in ("moving", "fixed"))
    before = fingerprint(data["training"])
    Path(data["training"][0]["image"][1]).write_bytes(b"another size")
    assert before["volumes"] == 4 and fingerprint(data["training"]) != before


def nnunet(root: Path, **content) -> Path:
    described = {"channel_names": {"0": "T1", "1": "T2", "2": "PD"}, "labels": {"background": 0, "a": 1}}
    (root / "dataset.json").write_text(json.dumps(described | {"numTraining": 2, "file_ending": ".nii.gz"} | content))
    return root


def test_the_channels_that_nnunet_states_are_compared(tmp_path):
    make(nnunet(tmp_path), *NNUNET, "labelsTr/b.nii.gz")
    for channels in (1, 3):
        assert len(find_volumes(tmp_path, channels=channels)) == 6 // channels
    with pytest.raises(ValueError, match=r"3 channel_names \(T1, T2, PD\), expected in_channels, which is 2"):
        find_volumes(tmp_path, channels=2)
    with pytest.raises(ValueError, match="numTraining is 5, found 2 cases"):
        labelled_data(str(nnunet(tmp_path, numTraining=5)), channels=3)


def test_the_cases_that_nnunet_lists_are_read(tmp_path):
    cases = {
        case: {"images": [f"raw/{case}{n}.nii" for n in range(3)], "label": f"raw/{case}s.nii"} for case in "abcde"
    }
    make(nnunet(tmp_path, dataset=cases), *(f"raw/{case}{end}.nii" for case in cases for end in "012s"))
    data = labelled_data(str(tmp_path), channels=3, validation=1, test=1)
    items = sorted((item for part in data.values() for item in part), key=lambda item: item["subject"])
    assert [item["subject"] for item in items] == list("abcde") and len(data["test"]) == 1
    assert relative(tmp_path, items[0]["image"]) == ("raw/a0.nii", "raw/a1.nii", "raw/a2.nii")
    with pytest.raises(ValueError, match=r"dataset.a.image: 3 files, .*, expected 1, one a channel \(in_channels\)"):
        labelled_data(str(tmp_path), validation=1, test=1)


def test_lists_name_the_channels_or_the_case_of_nnunet_1(tmp_path):
    make(tmp_path, *NNUNET, "x.nii", "y.nii", "z.nii")
    listed = [{"image": "./imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}, {"image": ["x.nii", "y.nii", "z.nii"]}]
    (tmp_path / "dataset.json").write_text(json.dumps({"training": listed}))
    items = find_volumes(tmp_path, channels=3)
    assert [relative(tmp_path, item["image"]) for item in items] == [tuple(NNUNET[:3]), ("x.nii", "y.nii", "z.nii")]
    assert [item["subject"] for item in items] == ["imagesTr/a", "x"]
    with pytest.raises(ValueError, match=r"training\[0\].image: 3 files, .* expected 2(.|\n)*\[1\].image: 3 files"):
        find_volumes(tmp_path, channels=2)
