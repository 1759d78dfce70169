# SPDX-License-Identifier: Apache-2.0
"""Data folders and dataset.json: absent, empty, malformed, or with patients in two parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .kind import Kind, evaluation, inference, kind, pretraining, registration, training
from .volumes import body, classified, listed, nifti, structures, volumes

HEART, CORONARY, BRAIN, COVID = "gvsl_seg_heart", "gvsl_seg_coronary", "gvsl_seg_brain", "gvsl_covid_cls"
Command = Callable[[Path], list[str]]


def infer(bundle: str = "gvsl_pretrain", **overrides: Any) -> Command:
    return lambda folder: inference(bundle, folder, **overrides)


def train(bundle: str, files: str = "train", **named: Any) -> Command:
    return lambda folder: training(bundle, folder, files, **named)


def after(prepare: Callable[[Path], Any], command: Command) -> Command:
    """The command after something is written to folder/data."""

    def make(folder: Path) -> list[str]:
        prepare(folder / "data")
        return command(folder)

    return make


def description(content: Any, command: Command = pretraining) -> Command:
    """The command on four volumes with this dataset.json, an object or its text."""
    return after(lambda data: listed(volumes(data), content), command)


def entries(*training: Any, **more: Any) -> dict[str, Any]:
    """A dataset.json of these entries."""
    return {"training": list(training), **more}


def labelled(*numbers: int) -> list[dict[str, str]]:
    return [{"image": f"images/{n}.nii.gz", "label": f"labels/{n}.nii.gz"} for n in numbers]


def split(**parts: list[dict[str, str]]) -> Command:
    """Training of the heart on six labelled volumes with these lists."""
    return after(lambda data: listed(volumes(data, 6, labelled=True), parts), train(HEART))


def not_utf8(data: Path) -> None:
    (volumes(data) / "dataset.json").write_bytes(b'{"training": ["\xff\xfe.nii.gz"]}')


def visits_of_one(data: Path) -> None:
    """Five visits of one patient, as in BIDS."""
    for visit in range(5):
        nifti(data / "sub-01" / f"ses-{visit}" / "anat" / f"sub-01_ses-{visit}_T1w.nii.gz", body(visit))


def label_maps_alone(data: Path) -> None:
    for number in range(5):
        nifti(data / "labelsTr" / f"{number}.nii.gz", structures())


def classes(*labels: Any, **named: Any) -> Command:
    """Training of the chest bundle with these classes."""
    return after(lambda data: classified(data, list(labels)), train(COVID, **named))


def one_class(folder: Path) -> list[str]:
    listed(folder / "data", entries(*({"image": f"images/{number}.nii.gz", "label": 0} for number in range(6))))
    return training(COVID, folder)


def chest(mask: Any) -> Command:
    """Inference of the chest bundle with a lung mask of this array in dataset.json."""

    def prepare(data: Path) -> None:
        nifti(volumes(data, 1) / "mask.nii.gz", mask)
        listed(data, entries({"image": "0.nii.gz", "mask": "mask.nii.gz"}))

    return after(prepare, infer(COVID))


DEEP = '{"training": ' + "[" * 20000 + "]" * 20000 + "}"
FOUR = [f"{number}.nii.gz" for number in range(4)]
KINDS: list[Kind] = [
    kind("no folder", pretraining, "data'? does not exist"),
    kind("no folder, heart", train(HEART), "data'? does not exist"),
    kind("no folder, coronary arteries", infer(CORONARY), "data'? does not exist"),
    kind("no folder, brain", train(BRAIN, "train evaluate"), "data'? does not exist"),
    kind("no folder, chest", infer(COVID), "data'? does not exist"),
    kind("empty folder", after(Path.mkdir, pretraining), "0 volumes", "expected"),
    kind("empty folder, features", after(Path.mkdir, infer()), "0 volumes", "expected"),
    kind("empty folder, heart", after(Path.mkdir, train(HEART)), "0 volumes", "expected"),
    kind("empty folder, chest", after(Path.mkdir, infer(COVID)), "0 volumes", "expected"),
    kind("one volume", after(lambda data: volumes(data, 1), pretraining), "1 volumes of 1 subjects", "at least 2"),
    kind("one labelled volume", after(lambda data: volumes(data, 1, labelled=True), train(HEART)), "none is left"),
    kind(
        "two labelled volumes of three parts",
        after(lambda data: volumes(data, 2, labelled=True), train(CORONARY)),
        "none is left",
    ),
    kind("file in place of a folder", after(lambda data: data.write_text("x"), pretraining), "is a file"),
    kind("file without a volume", after(lambda data: data.write_text("x"), infer(HEART)), "unknown format"),
    kind("number as folder", infer(BRAIN, dataset_dir=2024), "dataset_dir", "2024", "path|exist"),
    kind(
        "number as folder of pre-training", lambda folder: pretraining(folder, dataset_dir=2024), "dataset_dir", "2024"
    ),
    kind("list as folder", infer(dataset_dir=["a", "b"]), "dataset_dir", "path"),
    kind("None as folder", infer(HEART, dataset_dir="None"), "dataset_dir", "path|None"),
    kind("visits of one patient", after(visits_of_one, pretraining), "1 subject", "at least 2"),
    kind("label maps alone", after(label_maps_alone, pretraining), "0 volumes|label"),
    kind(
        "folder of notes",
        after(lambda data: (data.mkdir(), (data / "a.txt").write_text("x")), infer(CORONARY)),
        "0 volumes",
    ),
    kind(
        "archive in place of volumes",
        after(lambda data: (data.mkdir(), (data / "a.zip").write_bytes(b"PK")), train(BRAIN)),
        "0 volumes",
    ),
    kind("dataset.json is no JSON", description("{training: [}"), r"dataset\.json", "not valid JSON"),
    kind("dataset.json is cut", description('{"training": ["0.nii.gz"', infer()), r"dataset\.json", "not valid JSON"),
    kind("dataset.json is empty", description("", infer(HEART)), r"dataset\.json", "not valid JSON"),
    kind("dataset.json is a list", description(FOUR), r"dataset\.json", "list"),
    kind("dataset.json is null", description("null"), r"dataset\.json", "null|NoneType", "object"),
    kind("dataset.json is a number", description("7", infer(BRAIN)), r"dataset\.json", "int|number"),
    kind("dataset.json is nested deeply", description(DEEP), r"dataset\.json", "nest|deep|recursion"),
    kind("dataset.json is no UTF-8", after(not_utf8, pretraining), r"dataset\.json", "utf-?8"),
    kind(
        "dataset.json is a folder",
        after(lambda data: (volumes(data, 1) / "dataset.json").mkdir(), train(HEART)),
        r"dataset\.json|none is left|no label",
    ),
    kind("no list training", description({"test": FOUR}), r"dataset\.json", "training"),
    kind("training is null", description({"training": None}), r"dataset\.json", "training"),
    kind("training is an object", description({"training": {"image": "0.nii.gz"}}, infer()), "training"),
    kind("training is a number", description({"training": 4}), "training"),
    kind("training is empty", description({"training": []}), "0 volumes"),
    kind("null as entry", description(entries("0.nii.gz", None)), r"training\[1\]"),
    kind("number as entry", description(entries("0.nii.gz", 7)), r"training\[1\]"),
    kind("entry without image", description(entries({"label": "0.nii.gz"}, "1.nii.gz")), r"training\[0\]", "image"),
    kind("image is a number", description(entries({"image": 3}, "1.nii.gz")), r"training\[0\]\.image"),
    kind("image is null", description(entries({"image": None}, "1.nii.gz")), r"training\[0\]"),
    kind("image is a list", description(entries({"image": ["0.nii.gz", "1.nii.gz"]}, "1.nii.gz")), r"training\[0\]"),
    kind("image is missing", description(entries("0.nii.gz", "absent.nii.gz")), "absent", "existing file"),
    kind(
        "image is a folder without DICOM",
        description(entries("0.nii.gz", "1.nii.gz", "2.nii.gz", "3.nii.gz", ".")),
        "dicom|folder|file",
    ),
    kind(
        "address as image", description(entries("0.nii.gz", "https://example.org/a.nii.gz")), "example", "existing file"
    ),
    kind("one image twice", description(entries("0.nii.gz", "0.nii.gz")), "1 subject|twice|0.nii.gz"),
    kind("one subject alone", description(entries(*({"image": name, "subject": "A"} for name in FOUR))), "1 subjects"),
    kind("subject is a list", description(entries({"image": "0.nii.gz", "subject": ["A"]}, "1.nii.gz")), "subject"),
    kind(
        "subject is an object",
        description(entries({"image": "0.nii.gz", "subject": {}}, "1.nii.gz"), infer()),
        "subject",
    ),
    kind(
        "patient in training and test",
        split(training=labelled(0, 1, 2), validation=labelled(3), test=labelled(2)),
        "images/2",
        "more than one list|training and test",
    ),
    kind(
        "patient in training and validation",
        split(training=labelled(0, 1), validation=labelled(1), test=labelled(2)),
        "images/1",
        "more than one list|training and validation",
    ),
    kind("validation list is an object", split(training=labelled(0, 1), validation={"a": 1}), "validation"),
    kind("test images are missing", split(training=labelled(0, 1, 2), test=labelled(9)), r"test\[0\]", "existing file"),
    kind(
        "class that is not declared",
        classes(0, 1, 2, 0, 1, 0, labels={"no": 0, "yes": 1}),
        "label is 2|label.*2",
        "expected",
    ),
    kind("class as text", classes(0, 1, "1", 0, 1, 0), "'1'|\"1\""),
    kind("class as fraction", classes(0, 1, 0.5, 0, 1, 0), "0.5"),
    kind("class as truth value", classes(0, 1, True, 0, 1, 0), "true"),
    kind("class is null", classes(0, 1, None, 0, 1, 0), "no label|null"),
    kind("class as list", classes(0, 1, [1], 0, 1, 0), r"training\[2\]", r"\[1\]"),
    kind("one class alone", after(lambda data: volumes(data, 6, labelled=True), one_class), "none of|COVID"),
    kind("negative class", classes(0, 1, -1, 0, 1, 0), "-1"),
    kind("volumes without classes", after(lambda data: volumes(data, 6), train(COVID)), "6 of 6 volumes have no label"),
    kind("no lungs in the image", after(lambda data: volumes(data, 1), infer(COVID)), r"0\.nii\.gz", "lung"),
    kind("lung mask of another shape", chest(structures()[:12]), r"mask\.nii\.gz", "shape"),
    kind("empty lung mask", chest(structures() * 0), "mask", "empty|no lung|lung|0 voxels"),
    kind("half a lung in the mask", chest(structures() / 2), r"mask\.nii\.gz", "whole numbers"),
    kind(
        "evaluation of one volume",
        after(lambda data: volumes(data, 1), lambda folder: evaluation("gvsl_pretrain", folder)),
        "1 volumes of 1 subjects",
    ),
    kind("registration without moving", lambda folder: registration(folder, moving="None"), "moving is not given"),
    kind(
        "registration without fixed",
        after(lambda data: volumes(data, 2), lambda folder: registration(folder, fixed="None")),
        "fixed is not given",
    ),
    kind("moving volume is missing", lambda folder: registration(folder), r"0\.nii\.gz", "no such file"),
    kind("fixed volume is missing", after(lambda data: volumes(data, 1), registration), r"1\.nii\.gz", "no such file"),
    kind(
        "fixed volume with sheared axes",
        after(
            lambda data: (
                volumes(data, 1),
                nifti(data / "1.nii.gz", body(), [[6, 3, 0, 0], [0, 6, 0, 0], [0, 0, 6, 0], [0, 0, 0, 1]]),
            ),
            registration,
        ),
        r"1\.nii\.gz",
        "shear|ortho|perpendicular|right angle",
    ),
    kind("number as moving volume", lambda folder: registration(folder, moving=3), "moving", "path"),
]
