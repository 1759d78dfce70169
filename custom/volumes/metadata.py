# SPDX-License-Identifier: Apache-2.0
"""What a MetaTensor says of its file, and its values alone; other values have neither and pass."""

from __future__ import annotations

from typing import Any

from monai.data import MetaTensor


def file_name(volume: Any, otherwise: Any = "no file name") -> str:
    """The file that a volume was read from, or `otherwise` for a value without one; for messages."""
    return str(getattr(volume, "meta", {}).get("filename_or_obj", otherwise))


def without_metadata(value: Any) -> Any:
    """A MetaTensor as a plain tensor; any other value as it is."""
    return value.as_tensor() if isinstance(value, MetaTensor) else value
