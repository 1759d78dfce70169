# SPDX-License-Identifier: Apache-2.0
"""Segments a series through MONAI Label and has the result stored as DICOM-SEG where the series comes from.

MONAI Label gives the entries of `label_info` to the values that a label map has, in their order. With an entry for
each structure of the bundle, the names and colours of all structures after an absent one would be wrong. So the label
map comes first, and then what describes exactly the structures in it.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel
import numpy as np
import requests

STRUCTURES = Path(__file__).resolve().parents[1] / "structures.json"
INFERS_IN = 900  # seconds at most


class MonaiLabel:
    """Requests to a MONAI Label server over DICOMweb.

    Args:
        address: such as http://127.0.0.1:8000.
        model: name of the bundle.
    """

    def __init__(self, address: str, model: str) -> None:
        self.address, self.model = address, model

    def names(self) -> dict[int, str]:
        """The structures of the bundle by their value in label maps."""
        labels = self._ask("GET", "/info/").json()["models"][self.model]["labels"]
        return {value: name for name, value in labels.items()}

    def infer(self, series: str) -> bytes:
        """The label map of a series, as .nii.gz."""
        query = {"image": series, "output": "image"}
        return self._ask("POST", f"/infer/{self.model}", params=query, data={"params": "{}"}).content

    def store(self, series: str, label_map: Path) -> list[str]:
        """Has MONAI Label write a label map as DICOM-SEG and store it beside its series.

        Args:
            series: UID of the series.
            label_map: .nii.gz file on the grid of the series.

        Returns:
            The names of its segments, in their order.

        Raises:
            ValueError: see `describe`.
        """
        values = np.unique(np.asarray(nibabel.load(label_map).dataobj))
        segments = describe([int(value) for value in values if value], self.names(), self.model)
        with label_map.open("rb") as file:
            self._ask(
                "PUT",
                "/datastore/label",
                params={"image": series, "tag": "final"},
                data={"params": json.dumps({"label_info": segments})},
                files={"label": (label_map.name, file)},
            )
        return [segment["name"] for segment in segments]

    def _ask(self, method: str, path: str, **arguments: Any) -> requests.Response:
        answer = requests.request(method, self.address + path, timeout=INFERS_IN, **arguments)
        answer.raise_for_status()
        return answer


def describe(values: Sequence[int], names: dict[int, str], model: str) -> list[dict[str, Any]]:
    """`label_info` of MONAI Label for the structures that are present, with attributes of dcmqi.

    Args:
        values: of the label map, without background, ascending.
        names: of the structures by value.
        model: name of the bundle.

    Raises:
        ValueError: there is no structure, or one without a name or without an entry in structures.json.
    """
    structures = json.loads(STRUCTURES.read_text(encoding="utf-8"))
    if not values:
        raise ValueError("the label map has no structure; there is nothing to store")
    if unknown := [value for value in values if names.get(value) not in structures]:
        raise ValueError(f"the values {unknown} of the label map have no structure in {STRUCTURES}")
    return [_segment(value, names[value], structures[names[value]], model) for value in values]


def _segment(value: int, name: str, structure: dict[str, Any], model: str) -> dict[str, Any]:
    attributes = {
        "labelID": value,
        "SegmentLabel": name,
        "SegmentDescription": structure["meaning"],
        "SegmentAlgorithmType": "AUTOMATIC",
        "SegmentAlgorithmName": model,
        "SegmentedPropertyCategoryCodeSequence": _code("123037004", "Anatomical Structure"),
        "SegmentedPropertyTypeCodeSequence": _code(structure["code"], structure["meaning"]),
        "recommendedDisplayRGBValue": structure["colour"],
    }
    return {"name": name, "model_name": model, "segmentAttribute": attributes}


def _code(value: str, meaning: str) -> dict[str, str]:
    return {"CodeValue": value, "CodingSchemeDesignator": "SCT", "CodeMeaning": meaning}


def segment(server: MonaiLabel, series: str) -> list[str]:
    """Segments a series and has the result stored; returns the names of the segments."""
    with TemporaryDirectory() as folder:
        label_map = Path(folder) / "label.nii.gz"
        label_map.write_bytes(server.infer(series))
        return server.store(series, label_map)


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description="Segments a series and stores the result as DICOM-SEG.")
    parser.add_argument("series", help="UID of the series")
    parser.add_argument("--server", default="http://127.0.0.1:8000", help="address of MONAI Label")
    parser.add_argument("--model", default="gvsl_seg_heart", help="name of the bundle")
    chosen = parser.parse_args()
    print("stored:", ", ".join(segment(MonaiLabel(chosen.server, chosen.model), chosen.series)))


if __name__ == "__main__":
    main()
