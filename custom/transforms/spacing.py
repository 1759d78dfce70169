# SPDX-License-Identifier: Apache-2.0
"""MONAI's Spacingd for items that hold more than volumes and their metadata."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import Spacingd


class ToSpacingd(Spacingd):
    """
    `monai.transforms.Spacingd`, arguments and inverse included, that leaves entries such as `image_path` alone.

    MONAI 1.6.1 calls `update` on every entry `KEY_*` beside a volume from a NIfTI file; MONAI Label adds strings there.
    No key may begin with another key and an underscore.
    """

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        prefixes = tuple(f"{key}_" for key in self.keys)
        hidden = {
            name: value
            for name, value in data.items()
            if isinstance(name, str) and name.startswith(prefixes) and not isinstance(value, dict)
        }
        shown = {name: value for name, value in data.items() if name not in hidden}
        return super().__call__(shown, lazy) | hidden
