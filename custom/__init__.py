# SPDX-License-Identifier: Apache-2.0
"""Components that the bundle configs name by `_target_`."""

from typing import Any


def __getattr__(name: str) -> Any:
    """`load_backbone` and `load_segmenter`, imported at their first use: they import torch and MONAI."""
    if name in ("load_backbone", "load_segmenter"):
        from . import load

        return getattr(load, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
