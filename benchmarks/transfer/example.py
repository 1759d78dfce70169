# SPDX-License-Identifier: Apache-2.0
"""The first test case of a segmentation, kept beside the evaluation: methods are compared on one case."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from custom.figures import GrayScale, Planes
from custom.files import atomic
from custom.handlers import SegmentationReport

FILE = "example.npz"


class Example(NamedTuple):
    """A segmented case.

    Attributes:
        name: of the case.
        planes: of its picture.
        structures: name -> value in the label maps.
        gray_scale: of the image.
    """

    name: str
    planes: Planes
    structures: dict[str, int]
    gray_scale: GrayScale


def write_example(folder: Path, report: SegmentationReport) -> None:
    """Writes the first case of a finished evaluation into a folder."""
    case = report.cases[0]
    planes = {
        f"{part}_{row}": pixels for part in Planes._fields for row, pixels in enumerate(getattr(case.planes, part))
    }
    structures = {"names": list(report.structures), "values": list(report.structures.values())}
    scale = report.gray_scale
    gray = {"window": scale.window or (), "slope": scale.slope, "intercept": scale.intercept}
    with atomic(folder / FILE, "the example") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, case=case.name, **structures, **gray, **planes)


def read_example(folder: Path) -> Example:
    """The case that `write_example` wrote."""
    with np.load(folder / FILE) as file:
        planes = Planes(*([file[f"{part}_{row}"] for row in range(3)] for part in Planes._fields))
        structures = dict(zip(file["names"].tolist(), file["values"].tolist(), strict=True))
        gray_scale = GrayScale(tuple(file["window"].tolist()) or None, float(file["slope"]), float(file["intercept"]))
        return Example(str(file["case"]), planes, structures, gray_scale)
