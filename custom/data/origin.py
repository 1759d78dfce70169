# SPDX-License-Identifier: Apache-2.0
"""Whether volumes are phantoms of this repository or files that a user gave."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..volumes import image_name

PHANTOM_MANIFEST = ".phantom_cohort.json"  # in the folder of each phantom cohort


def trained_on(items: Sequence[dict[str, Any]]) -> str:
    """The entry "trained_on" of model.json: "synthetic" if all volumes are phantoms, otherwise "files".

    Args:
        items: {"image": path}.
    """
    return "synthetic" if items and all(is_phantom(image_name(item["image"])) for item in items) else "files"


def is_phantom(image: str | os.PathLike) -> bool:
    """Whether a volume file is one of a phantom cohort."""
    return (Path(image).parent.parent / PHANTOM_MANIFEST).is_file()  # ROOT/images/phantom_000.nii.gz
