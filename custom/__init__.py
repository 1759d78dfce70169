# SPDX-License-Identifier: Apache-2.0
"""Components that the bundle configs name by `_target_`."""

from typing import Any


def __getattr__(name: str) -> Any:
    """What `custom.load` has for users, imported at its first use: it imports torch and MONAI."""
    if name in ("load_backbone", "load_preprocessing", "load_segmenter"):
        from . import load

        return getattr(load, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
