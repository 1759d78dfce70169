# SPDX-License-Identifier: Apache-2.0
"""Which volumes a run was trained on, kept beside its checkpoints: an evaluation tells if it repeats them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import read_json, write_json
from ..volumes import Image, files_of, paths_of

FILE = Path("checkpoints") / "training_volumes.json"  # below the folder of a run; it is never part of what is shipped
SAMPLE = 2**16  # bytes of a volume that are looked at


def write_seen(directory: str | os.PathLike, items: Sequence[Mapping[str, Any]]) -> None:
    """Writes the identities of training volumes below the folder of a run."""
    identities = sorted({volume_identity(item["image"]) for item in items})
    write_json(Path(directory) / FILE, {"training": identities}, "the training volumes")


def seen_in_training(weights: str | os.PathLike, images: Sequence[Image]) -> list[Image]:
    """Those of some images on which the run that wrote the weights was trained; [] if it is not known.

    Args:
        weights: folder of the weights, or a file in it.
        images: paths of volumes, or of the channels of each.
    """
    folder = Path(weights)
    file = (folder if folder.is_dir() else folder.parent) / FILE
    if not file.is_file():
        return []
    seen = set(read_json(file, "the training volumes").get("training", []))
    return [image for image in images if _is_readable(image) and volume_identity(image) in seen]


def _is_readable(image: Image) -> bool:
    """Whether all files of a volume can be opened; the evaluation names one that cannot."""
    return all(os.access(file, os.R_OK) for path in paths_of(image) for file in files_of(path))


def volume_identity(image: Image) -> str:
    """A digest of a volume's content: the sizes of its files, and bytes from the middle of the largest.

    The name is not part of it, so that a copy elsewhere is the same volume.
    """
    digest = hashlib.sha256()
    for path in paths_of(image):
        sizes = {file: os.path.getsize(file) for file in files_of(path)}
        digest.update(f"{sorted(sizes.values())}\n".encode())
        if sizes:
            largest = max(sorted(sizes), key=sizes.__getitem__)
            with open(largest, "rb") as file:
                file.seek(max((sizes[largest] - SAMPLE) // 2, 0))
                digest.update(file.read(SAMPLE))
    return digest.hexdigest()[:32]
