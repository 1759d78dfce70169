# SPDX-License-Identifier: Apache-2.0
"""Files of the product: JSON, hashes, and files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def sha256(path: str | os.PathLike) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """A JSON object; errors name the file."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path} does not exist, expected the description of the weights beside it")
    with open(path, encoding="utf-8") as file:
        try:
            return json.load(file)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not valid JSON: {error}") from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Indented JSON, written under another name first and then renamed."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)
