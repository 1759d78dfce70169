# SPDX-License-Identifier: Apache-2.0
"""Joins labelled data sets into one: a dataset.json whose lists hold the volumes of all.

python -m tools.join_data --sources "['LABELLED','PROPAGATED']" --output_dir JOINED

The volumes stay where they are. A source without lists, such as a folder of images with NAME_label.nii.gz beside them,
joins "training".
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from custom.data import labelled_data
from custom.files import write_json
from custom.running import run_tool


def join(sources: Sequence[str], output_dir: str) -> None:
    """Writes dataset.json.

    Args:
        sources: labelled data sets, see docs/input.md.
        output_dir: folder for dataset.json; made if missing.

    Raises:
        ValueError: a source has volumes without labels, or a subject is in two lists.
    """
    joined: dict[str, list[dict[str, str]]] = {}
    for source in sources:
        for part, items in labelled_data(source, validation=0, test=0).items():
            joined.setdefault(part, []).extend(
                {
                    "image": os.path.relpath(item["image"], output_dir),
                    "label": os.path.relpath(item["label"], output_dir),
                    "subject": f"{os.path.basename(os.path.abspath(source))}/{item['subject']}",
                }
                for item in items
            )
    Path(output_dir).mkdir(parents=True, exist_ok=True)
    write_json(Path(output_dir) / "dataset.json", {part: items for part, items in joined.items() if items})
    print(f"{output_dir}/dataset.json: " + ", ".join(f"{len(items)} {part}" for part, items in joined.items()))


if __name__ == "__main__":
    run_tool(join)
