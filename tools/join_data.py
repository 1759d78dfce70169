# SPDX-License-Identifier: Apache-2.0
"""Joins labelled data sets into one: a dataset.json whose lists hold the volumes of all.

python -m tools.join_data --sources LABELLED,PROPAGATED --output_dir JOINED

The volumes stay where they are. A source without lists, such as a folder of images with NAME_label.nii.gz beside them,
joins "training". The people of one source are taken for others than those of another: a subject becomes SOURCE/SUBJECT.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from custom.data import labelled_data
from custom.data.dataset_json import stated_labels
from custom.files import write_json
from custom.running import run_tool
from custom.running.arguments import listed


def join(sources: str | int | Sequence[str | int], output_dir: str) -> None:
    """Writes dataset.json. Its `labels` are those of the sources that state some.

    Args:
        sources: labelled data sets, see docs/input.md: one, several with commas, or a list of them.
        output_dir: folder for dataset.json; made if missing.

    Raises:
        ValueError: there is no source; two have one name, one volume or other `labels`; a volume has no label map, or a
            subject is in two lists of a source.
    """
    named = by_name([os.path.expanduser(source) for source in listed(sources)])
    labels = common_labels(named.values())
    source_of: dict[str, str] = {}  # image -> source
    joined: dict[str, list[dict[str, str]]] = {}
    for name, source in named.items():
        for part, items in labelled_data(source, validation=0, test=0).items():
            for item in items:
                check_item(item, source, source_of)
            joined.setdefault(part, []).extend(
                {
                    "image": os.path.relpath(item["image"], output_dir),
                    "label": os.path.relpath(item["label"], output_dir),
                    "subject": f"{name}/{item['subject']}",
                }
                for item in items
            )
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    lists = {part: items for part, items in joined.items() if items}
    write_json(Path(output_dir) / "dataset.json", ({"labels": labels} if labels else {}) | lists)
    print(f"{output_dir}/dataset.json: " + ", ".join(f"{len(items)} {part}" for part, items in joined.items()))


def by_name(sources: Sequence[str]) -> dict[str, str]:
    """Name, which subjects begin with, -> source; ValueError if there is none, or if two have one name."""
    if not sources:
        raise ValueError("sources is empty, expected the folders of labelled data sets")
    named: dict[str, str] = {}
    for source in sources:
        name = os.path.basename(os.path.abspath(source))
        if name in named:
            raise ValueError(f"sources {named[name]} and {source} have one name, {name!r}, expected different ones")
        named[name] = source
    return named


def common_labels(sources: Iterable[str]) -> dict[str, int]:
    """The entry `labels`, NAME -> value, of the sources whose dataset.json states it; ValueError if they differ."""
    common, first = {}, ""
    for source in sources:
        labels = stated_labels(os.path.join(source, "dataset.json"))
        labels = {name: value for name, value in labels.items() if value != 0}  # the background may be stated or not
        if labels and common and labels != common:
            raise ValueError(f"{source} has the labels {labels}, expected those of {first}, {common}")
        if labels and not common:
            common, first = labels, source
    return common


def check_item(item: dict[str, Any], source: str, source_of: dict[str, str]) -> None:
    """Raises ValueError if a volume has a class, or is one of another source; adds it to `source_of`."""
    if isinstance(item["label"], int):
        raise ValueError(f"{source}: {item['image']} has the class {item['label']}, expected a label map")
    other = source_of.setdefault(os.path.realpath(item["image"]), source)
    if other != source:
        raise ValueError(f"{source}: {item['image']} is in {other}, too, expected each volume in one source")


if __name__ == "__main__":
    run_tool(join)
