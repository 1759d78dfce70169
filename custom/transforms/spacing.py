# SPDX-License-Identifier: Apache-2.0
"""MONAI's Spacingd for items with further entries besides volumes and their metadata."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import Spacingd


class ToSpacingd(Spacingd):
    """
    `monai.transforms.Spacingd` that does not touch entries such as `image_path`; arguments and inverse are the same.

    With a volume from a NIfTI file under a key, MONAI 1.6.1 calls `update` on every entry whose name begins with
    this key and an underscore. MONAI Label adds strings with such names. No key may begin with another key and an
    underscore.
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
