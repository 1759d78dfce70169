# SPDX-License-Identifier: Apache-2.0
"""Label maps that do not fit their images, or hold no labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .kind import Kind, evaluation, kind, registration, training
from .nifti import RGB, UNREADABLE, scaled
from .volumes import AFFINE, SHAPE, body, by_itk, cut, listed, nifti, structures, volumes

HEART, CORONARY, BRAIN = "gvsl_seg_heart", "gvsl_seg_coronary", "gvsl_seg_brain"


def label_kind(name: str, bundle: str, spoil: Callable[[Path], Any], *words: str) -> Kind:
    """A kind in which `spoil` writes the label maps of a segmentation task anew."""

    def make(folder: Path) -> list[str]:
        data = volumes(folder / "data", labelled=True)
        for path in sorted((data / "labels").iterdir()):
            spoil(path)
        return training(bundle, folder)

    return kind(name, make, r"labels/\d\.", *words)


def every_label(bundle: str, array: np.ndarray) -> Callable[[Path], list[str]]:
    """Evaluation of a bundle on volumes with this label map."""

    def make(folder: Path) -> list[str]:
        data = volumes(folder / "data", labelled=True)
        for number in range(4):
            nifti(data / "labels" / f"{number}.nii.gz", array)
        return evaluation(bundle, folder)

    return make


def registered(**labels: np.ndarray | None) -> Callable[[Path], list[str]]:
    """Registration with label maps; None is a map on another grid."""

    def make(folder: Path) -> list[str]:
        data = volumes(folder / "data", 2)
        paths = {}
        for name, array in labels.items():
            shifted = structures() if array is None else array
            paths[name] = nifti(data / "labels" / f"{name}.nii.gz", shifted, scaled(1.5) if array is None else AFFINE)
        return registration(folder, **paths)

    return make


def with_value(value: float, dtype: str) -> np.ndarray:
    """`structures` with this value in one voxel."""
    array = structures().astype(dtype)
    array[2, 2, 2] = value
    return array


def shifted(millimetres: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] += millimetres
    return affine


def no_label(folder: Path) -> list[str]:
    (volumes(folder / "data", labelled=True) / "labels" / "2.nii.gz").unlink()
    return training(HEART, folder)


def no_labels(folder: Path) -> list[str]:
    volumes(folder / "data")
    return training(CORONARY, folder)


def as_other_format(path: Path) -> None:
    path.unlink()
    by_itk(path.parent / path.name.replace(".nii.gz", ".nrrd"), structures()[:12])


def listed_label(value: Any) -> Callable[[Path], list[str]]:
    """A dataset.json with this label of the third volume."""

    def make(folder: Path) -> list[str]:
        volumes(folder / "data", labelled=True)
        items = [{"image": f"images/{n}.nii.gz", "label": f"labels/{n}.nii.gz"} for n in range(4)]
        for item in items if isinstance(value, int) else items[2:3]:  # a class may stand in every part of the split
            item["label"] = value
        listed(folder / "data", {"training": items})
        return training(HEART, folder)

    return make


BIG = 2**24 + 1  # no float32
KINDS: list[Kind] = [
    label_kind("label map of another shape", HEART, lambda path: nifti(path, structures()[:12]), r"\(12, 15, 14\)"),
    label_kind("label map of another shape as NRRD", BRAIN, as_other_format, r"12, 15, 14"),
    label_kind(
        "label map 12 mm off", CORONARY, lambda path: nifti(path, structures(), shifted(12)), r"12(\.0+)? mm|affine"
    ),
    label_kind("label map of other voxels", BRAIN, lambda path: nifti(path, structures(), scaled(1.5)), "mm|affine"),
    label_kind("flipped label map", HEART, lambda path: nifti(path, structures(), AFFINE * [-1, 1, 1, 1]), "mm|affine"),
    label_kind("truncated label map", CORONARY, lambda path: cut(nifti(path, structures())), UNREADABLE),
    label_kind("empty label file", BRAIN, lambda path: path.write_bytes(b""), UNREADABLE),
    label_kind("half a label", HEART, lambda path: nifti(path, with_value(0.5, "f4")), "whole numbers"),
    label_kind(
        "probabilities as label map",
        CORONARY,
        lambda path: nifti(path, np.random.default_rng(0).random(SHAPE, "f4")),
        "whole numbers",
    ),
    label_kind("NaN in a label map", BRAIN, lambda path: nifti(path, with_value(np.nan, "f4")), "NaN"),
    label_kind("label that is not declared", HEART, lambda path: nifti(path, with_value(77, "i2")), "77"),
    label_kind("label that is not declared, coronary", CORONARY, lambda path: nifti(path, with_value(9, "u1")), " 9 "),
    label_kind("negative label", BRAIN, lambda path: nifti(path, with_value(-3, "i2")), "-3"),
    label_kind("the image as label map", HEART, lambda path: nifti(path, body()), "label values"),
    label_kind(
        "one channel for each structure", CORONARY, lambda path: nifti(path, np.stack([structures()] * 3, -1)), "4D"
    ),
    label_kind("2D label map", BRAIN, lambda path: nifti(path, structures()[..., 0]), "2D|shape"),
    label_kind("RGB label map", HEART, lambda path: nifti(path, np.zeros(SHAPE, RGB)), "RGB"),
    label_kind("complex label map", CORONARY, lambda path: nifti(path, structures().astype("c8")), "complex"),
    label_kind("label above 2^24", HEART, lambda path: nifti(path, with_value(BIG, "i4")), str(BIG)),
    label_kind("label above int32", BRAIN, lambda path: nifti(path, with_value(2**32 + 1, "i8")), str(2**32 + 1)),
    label_kind(
        "label map with a spacing of 600 mm", HEART, lambda path: nifti(path, structures(), scaled(100)), "600|mm"
    ),
    kind("label map is missing", no_label, "1 of 4 volumes have no label", r"images/2\.nii\.gz"),
    kind("no label map at all", no_labels, "4 of 4 volumes have no label"),
    kind("label map in dataset.json is missing", listed_label("labels/absent.nii.gz"), r"training\[2\]", "absent"),
    kind("label null in dataset.json", listed_label(None), "1 of 4 volumes have no label|label.*(null|None)"),
    kind("class in place of a label map", listed_label(1), r"\d\.nii\.gz|training\[\d\]", "label"),
    kind("list as label in dataset.json", listed_label(["a", "b"]), r"training\[2\]"),
    kind("evaluation with undeclared labels", every_label(HEART, with_value(77, "i2")), "77"),
    kind("evaluation of the coronary arteries with half labels", every_label(CORONARY, with_value(0.5, "f4")), "whole"),
    kind("evaluation of brains with NaN labels", every_label(BRAIN, with_value(np.nan, "f4")), "NaN"),
    kind("fixed_label without moving_label", registered(fixed_label=structures()), "fixed_label", "moving_label"),
    kind("moving_label on another grid", registered(moving_label=None), r"moving_label\.nii\.gz", "mm|grid|shape"),
    kind(
        "fixed_label on another grid",
        registered(moving_label=structures(), fixed_label=None),
        r"fixed_label\.nii\.gz",
        "mm|grid|shape",
    ),
    kind("half labels registered", registered(moving_label=with_value(0.5, "f4")), "whole numbers"),
]
