# SPDX-License-Identifier: Apache-2.0
"""A folder for each class: the class of a volume is the first folder of its path."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..volumes import Image, image_name
from .names import natural_key


def with_class_of_folder(
    items: Sequence[dict[str, Any]], root: str, classes: Mapping[str, int]
) -> list[dict[str, Any]]:
    """
    Items whose label is the class that their folder names.

    Args:
        items: volumes below `root`.
        root: the data set.
        classes: class -> value in the data set.

    Raises:
        ValueError: a folder is no class; the message has the folders that were found and the classes.
    """
    folders = [_first_folder(item, root) for item in items]
    counts = Counter(folders)
    if unlabelled := sum(count for folder, count in counts.items() if folder not in classes):
        found = ", ".join(f"{count} in {folder or 'no folder'}" for folder, count in counts.items())
        raise ValueError(
            f"dataset_dir {root!r}: {unlabelled} of {len(items)} volumes have no label ({found}), expected a folder "
            f"for each class, {' and '.join(map(repr, classes))} (--labels names them), dataset.json or dataset.csv"
        )
    return [item | {"label": classes[folder]} for item, folder in zip(items, folders, strict=True)]


def class_folders(images: Sequence[Image], root: str) -> list[str]:
    """The first folders of images below `root`, in natural order; [] if there are not several, or one has none."""
    folders = {_first_folder({"image": image}, root) for image in images}
    return sorted(folders, key=natural_key) if len(folders) > 1 and "" not in folders else []


def _first_folder(item: dict[str, Any], root: str) -> str:
    first, _, rest = os.path.relpath(image_name(item["image"]), root).partition(os.sep)
    return first if rest else ""
