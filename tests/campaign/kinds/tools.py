# SPDX-License-Identifier: Apache-2.0
"""The tools, the benchmarks and the phantoms: absent sources, wrong files, words that no command knows."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from custom.files import sha256

from .kind import BUNDLES, Kind, kind, pretraining, tool
from .volumes import body, cut, nifti

PREPARE, PACKAGE, VERIFY, CONVERT = (
    f"tools.{name}" for name in ("prepare_data", "package_bundles", "verify_bundles", "convert_weights")
)


def call(
    module: str, *arguments: Any, prepare: Callable[[Path], Any] = lambda folder: None
) -> Callable[[Path], list[str]]:
    """A tool's command line; FOLDER in an argument stands for the folder, to which `prepare` has written."""

    def make(folder: Path) -> list[str]:
        prepare(folder)
        return tool(module, *(str(argument).replace("FOLDER", str(folder)) for argument in arguments))

    return make


def prepared(
    data_set: str, prepare: Callable[[Path], Any] = lambda folder: None, *more: str
) -> Callable[[Path], list[str]]:
    """tools.prepare_data on FOLDER/source."""
    where = ("--source=FOLDER/source", "--output_dir=FOLDER/out", "--workers=0")
    return call(PREPARE, data_set, *where, *more, prepare=prepare)


def mmwhs(folder: Path, count: int = 3, label_value: int = 205) -> Path:
    """MM-WHS as it is unpacked."""
    source = folder / "source"
    for number in range(1001, 1001 + count):
        label = (body() > 200) * label_value
        nifti(source / f"ct_train_{number}_image.nii.gz", body())
        nifti(source / f"ct_train_{number}_label.nii.gz", label.astype("i2"))
    return source


def stoic(text: str) -> Callable[[Path], Any]:
    """STOIC with a reference.csv of this text and no volumes."""

    def prepare(folder: Path) -> None:
        (folder / "source" / "metadata").mkdir(parents=True)
        (folder / "source" / "metadata" / "reference.csv").write_text(text)

    return prepare


def text_file(name: str, text: str) -> Callable[[Path], Any]:
    def prepare(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    return prepare


def tensors(name: str, content: Any) -> Callable[[Path], Any]:
    return lambda folder: torch.save(content, folder / name)


def zipped(members: dict[str, str], digest: str | None = None) -> Callable[[Path], Any]:
    """FOLDER/dist with model_info.json and a zip of these members."""

    def prepare(folder: Path) -> None:
        path = folder / "dist" / "heart_v1.zip"
        path.parent.mkdir()
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        info = {"heart_v1": {"checksum": "", "sha256": digest or sha256(path), "source": path.name}}
        (path.parent / "model_info.json").write_text(json.dumps(info))

    return prepare


def no_zip(folder: Path) -> None:
    """A text called .zip, with its true hash in model_info.json."""
    zipped({"a": ""})(folder)
    path = folder / "dist" / "heart_v1.zip"
    path.write_text("no zip")
    (path.parent / "model_info.json").write_text(json.dumps({"heart_v1": {"sha256": sha256(path)}}))


def bundle_with(change: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """A changed copy of a bundle at FOLDER/heart."""

    def prepare(folder: Path) -> None:
        ignored = shutil.ignore_patterns("output*", "data", "release", "earlier", "predictions")
        shutil.copytree(BUNDLES / "gvsl_seg_heart", folder / "heart", ignore=ignored)
        change(folder / "heart")

    return prepare


def task(change: dict[str, Any] | str) -> Callable[[Path], Any]:
    """FOLDER/task.json: a task with these changes, or this text."""
    recipe = {"learning_rates": {"linear": [0.01]}, "pretraining": {"max_epochs": 1}}
    content = {"name": "task", "bundle": "gvsl_seg_heart", "source": "absent", "labels": {"a": 1}, "labelled": 1,
               "split": {"pretraining": ["a"], "validation": ["b"], "test": ["c"]}, "recipe": recipe}  # fmt: skip
    return text_file("task.json", change if isinstance(change, str) else json.dumps(content | change))


def transfer(command: str, *arguments: str, change: dict[str, Any] | str = "{}") -> Callable[[Path], list[str]]:
    where = ["--data=FOLDER/data", "--results=FOLDER/results"]
    where = where + ["--work=FOLDER/work", "--workers=1"] if command in ("run", "ablate") else where[:1]
    return call("benchmarks.transfer", command, *arguments, *where, prepare=task(change))


def two_heart_volumes(folder: Path) -> None:
    """MM-WHS of which nothing can be read."""
    for path in mmwhs(folder).iterdir():
        cut(path)


def cohort(name: str, text: str, **overrides: Any) -> Callable[[Path], list[str]]:
    """Pre-training on the phantoms of a folder in which a file of another run stands."""

    def make(folder: Path) -> list[str]:
        text_file(f"data/{name}", text)(folder)
        where = {"cohort__root": folder / "data", "cohort__subjects": 4, "cohort__workers": 0}
        return pretraining(folder, **where | overrides)

    return make


CASE_OF_ASOCA = text_file("source/Normal/Annotations/Normal_1.nrrd", "x")
KINDS: list[Kind] = [
    kind("prepare_data without a data set", call(PREPARE, "--source=FOLDER"), "source|command|data"),
    kind(
        "prepare_data of an unknown data set", call(PREPARE, "mmwsh", "--source=a", "--output_dir=b"), "mmwsh", "mmwhs"
    ),
    kind("prepare_data without a source", call(PREPARE, "mmwhs", "--output_dir=FOLDER/out"), "source"),
    kind("prepare_data with a mistyped flag", call(PREPARE, "mmwhs", "--sorce=a", "--output_dir=b"), "sorce", "source"),
    kind("MM-WHS is not there", prepared("mmwhs"), "source"),
    kind("ASOCA is not there", prepared("asoca"), "source"),
    kind("CANDI is not there", prepared("candi"), "source"),
    kind("STOIC is not there", prepared("stoic"), "source"),
    kind("source is a file", prepared("mmwhs", text_file("source", "x")), "source", "folder"),
    kind("source is empty", prepared("mmwhs", lambda folder: (folder / "source").mkdir()), "ct_train", "expected"),
    kind("source holds other files", prepared("candi", text_file("source/a.txt", "x")), "procimg", "expected"),
    kind("ASOCA without images", prepared("asoca", CASE_OF_ASOCA), "source", "expected"),
    kind(
        "STOIC without reference.csv", prepared("stoic", lambda folder: (folder / "source").mkdir()), r"reference\.csv"
    ),
    kind("reference.csv with other columns", prepared("stoic", stoic("a,b\n1,2\n")), r"reference\.csv", "PatientID"),
    kind(
        "reference.csv of no subjects",
        prepared("stoic", stoic("PatientID,probCOVID,probSevere\n")),
        "0 cases|subject|csv",
    ),
    kind(
        "reference.csv with words",
        prepared("stoic", stoic("PatientID,probCOVID,probSevere\n1,yes,no\n")),
        "unusable|none of|0 cases",
    ),
    kind(
        "STOIC without its volumes",
        prepared("stoic", stoic("PatientID,probCOVID,probSevere\n1,1,0\n")),
        "unusable|none of|0 cases",
    ),
    kind("one case of MM-WHS", prepared("mmwhs", lambda folder: mmwhs(folder, 1)), "1 usable subjects", "at least"),
    kind("no case of MM-WHS can be read", prepared("mmwhs", two_heart_volumes), "none of the 3 cases", "unusable"),
    kind(
        "one case of MM-WHS cannot be read",
        prepared("mmwhs", lambda folder: cut(mmwhs(folder) / "ct_train_1002_image.nii.gz")),
        "1 files cannot be used",
        "unusable",
    ),
    kind(
        "labels of MM-WHS of another data set",
        prepared("mmwhs", lambda folder: mmwhs(folder, 3, 77)),
        "none of the 3|unusable",
    ),
    kind(
        "one case of MM-WHS twice",
        prepared("mmwhs", lambda folder: nifti(mmwhs(folder) / "backup" / "ct_train_1001_image.nii.gz", body())),
        "cannot be used",
        "unusable",
    ),
    kind("crop of two numbers", prepared("candi", text_file("source/a.txt", "x"), "--crop=150,192"), "crop", "three"),
    kind(
        "prepared with other settings before",
        prepared(
            "mmwhs", lambda folder: (mmwhs(folder), text_file("out/preparation.json", '{"margin_mm": 3}')(folder))
        ),
        "margin_mm",
        "output_dir",
    ),
    kind("packaging of an unknown bundle", call(PACKAGE, "--output_dir=FOLDER", "--bundles=gvsl_heart"), "gvsl_heart"),
    kind("packaging with a mistyped flag", call(PACKAGE, "--output=FOLDER"), "output", "output_dir"),
    kind(
        "zips to a file",
        call(PACKAGE, "--output_dir=FOLDER/out", prepare=text_file("out", "x")),
        "out",
        "exist|file|director",
    ),
    kind("no bundles to verify", call(VERIFY, "--bundle_dir=FOLDER"), "no bundle", "expected"),
    kind("no folder of bundles", call(VERIFY, "--bundle_dir=FOLDER/absent"), "absent"),
    kind("zip that is none", call(VERIFY, "--bundle_dir=FOLDER/dist", prepare=no_zip), r"heart_v1\.zip", "zip"),
    kind(
        "zip with another hash",
        call(VERIFY, "--bundle_dir=FOLDER/dist", prepare=zipped({"heart/a": ""}, "0" * 64)),
        r"heart_v1\.zip",
        "SHA-256",
    ),
    kind(
        "zip that writes outside",
        call(VERIFY, "--bundle_dir=FOLDER/dist", prepare=zipped({"heart/../../a": ""})),
        r"heart_v1\.zip",
        "below",
    ),
    kind(
        "zip that is missing",
        call(
            VERIFY,
            "--bundle_dir=FOLDER/dist",
            prepare=lambda folder: (zipped({"heart/a": ""})(folder), (folder / "dist" / "heart_v1.zip").unlink()),
        ),
        r"heart_v1\.zip",
        "exist",
    ),
    kind(
        "model_info.json is no JSON",
        call(VERIFY, "--bundle_dir=FOLDER", prepare=text_file("model_info.json", "{")),
        r"model_info\.json",
        "JSON",
    ),
    kind(
        "model_info.json is a list",
        call(VERIFY, "--bundle_dir=FOLDER", prepare=text_file("model_info.json", "[]")),
        r"model_info\.json",
        "list|object",
    ),
    kind(
        "model_info.json without hashes",
        call(VERIFY, "--bundle_dir=FOLDER", prepare=text_file("model_info.json", '{"heart_v1": {}}')),
        r"model_info\.json|heart_v1",
        "sha256",
    ),
    kind(
        "bundle whose train.json is no JSON",
        call(
            VERIFY,
            "--bundle_dir=FOLDER",
            "--no_run",
            prepare=bundle_with(lambda heart: (heart / "configs" / "train.json").write_text("{")),
        ),
        r"train\.json",
        "JSON",
    ),
    kind(
        "bundle without weights",
        call(
            VERIFY,
            "--bundle_dir=FOLDER",
            "--no_run",
            prepare=bundle_with(lambda heart: (heart / "models" / "model.pt").unlink()),
        ),
        r"model\.pt is missing",
    ),
    kind(
        "no checkpoint to convert",
        call(CONVERT, "from_authors", "--source=FOLDER/a.pth", "--output_dir=FOLDER/out"),
        r"a\.pth",
        "exist",
    ),
    kind(
        "checkpoint of garbage",
        call(
            CONVERT,
            "from_authors",
            "--source=FOLDER/a.pth",
            "--output_dir=FOLDER/out",
            prepare=text_file("a.pth", "x" * 99),
        ),
        r"a\.pth",
        "tensors",
    ),
    kind(
        "checkpoint of a list",
        call(
            CONVERT,
            "from_authors",
            "--source=FOLDER/a.pth",
            "--output_dir=FOLDER/out",
            prepare=tensors("a.pth", [torch.zeros(1)]),
        ),
        r"a\.pth",
        "state dict",
    ),
    kind(
        "checkpoint of another network",
        call(
            CONVERT,
            "from_authors",
            "--source=FOLDER/a.pth",
            "--output_dir=FOLDER/out",
            prepare=tensors("a.pth", {"conv.weight": torch.zeros(1)}),
        ),
        r"a\.pth",
        "not a model of the authors",
    ),
    kind(
        "conversion of heads by keypoints",
        call(CONVERT, "to_authors", f"--source={BUNDLES / 'gvsl_pretrain' / 'models'}", "--output_file=FOLDER/a.pth"),
        "keypoints",
        "backbone_only",
    ),
    kind(
        "conversion of no weights",
        call(CONVERT, "to_authors", "--source=FOLDER", "--output_file=FOLDER/a.pth"),
        "exist",
    ),
    kind("conversion to nowhere", call(CONVERT, "to_author", "--source=FOLDER"), "to_author", "to_authors"),
    kind("backbone of no weights", call("tools.ship_backbone", "--bundle=FOLDER", "--source=FOLDER/absent"), "absent"),
    kind(
        "phantoms of an unknown kind",
        call("tools.draw_phantoms", "--output=FOLDER/a.png", "--kind=heart"),
        "heart",
        "cardiac",
    ),
    kind("pictures of no phantoms", call("tools.draw_phantoms", "--output=FOLDER/a.png", "--subjects=0"), "subjects"),
    kind("unknown task", transfer("run", "--tasks=brian"), "brian", "brains?"),
    kind("unknown protocol", transfer("run", "--tasks=brain", "--protocols=porbe"), "porbe", "probe"),
    kind("unknown method", transfer("run", "--tasks=brain", "--methods=gsvl", "--protocols=probe"), "gsvl"),
    kind("seeds that are words", transfer("run", "--tasks=brain", "--seeds=one"), "one|seed"),
    kind("unknown command of the benchmark", call("benchmarks.transfer", "runn"), "runn"),
    kind("task file that is no JSON", transfer("run", "--tasks=FOLDER/task.json", change="{"), r"task\.json", "JSON"),
    kind(
        "task file with an unknown key",
        transfer("run", "--tasks=FOLDER/task.json", change={"labeled": 3}),
        r"task\.json",
        "labeled",
    ),
    kind(
        "task file without a recipe",
        transfer("run", "--tasks=FOLDER/task.json", change='{"name": "task"}'),
        r"task\.json",
        "recipe",
    ),
    kind(
        "task file of volumes that are missing",
        transfer("run", "--tasks=FOLDER/task.json", change={}),
        "exist",
        "absent",
    ),
    kind(
        "ablation of a task without one",
        transfer("ablate", "--tasks=FOLDER/task.json", change={"bundle": None}),
        "ablation|task",
    ),
    kind("download of a synthetic task", transfer("fetch", "--tasks=heart_phantoms"), "synthetic"),
    kind("download of a task behind a registration", transfer("fetch", "--tasks=brain"), "cannot be fetched"),
    kind(
        "registration benchmark of an unknown method",
        call("benchmarks.registration", "--task=brain", "--methods=sny"),
        "sny",
    ),
    kind(
        "registration benchmark of an unknown part",
        call(
            "benchmarks.registration",
            "--task=brain",
            "--part=tset",
            "--data=FOLDER",
            "--work=FOLDER",
            "--methods=before",
        ),
        "tset",
    ),
    kind("step time of an unknown width", call("benchmarks.step_time", "--widths=wide"), "wide", "demo"),
    kind(
        "real CT that is missing",
        call("benchmarks.cardiac_cta", "--data=FOLDER", "--output=FOLDER/a.json"),
        "exist|no such",
        r"ct\.nii\.gz",
    ),
    kind(
        "phantoms in the folder of others",
        cohort("dataset.json", '{"name": "other"}'),
        r"dataset\.json",
        "another cohort",
    ),
    kind("description of phantoms that is no JSON", cohort("dataset.json", "{"), r"dataset\.json", "JSON"),
    kind("manifest of phantoms that is no JSON", cohort(".phantom_cohort.json", "{"), r"phantom_cohort\.json", "JSON"),
]
