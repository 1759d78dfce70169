# SPDX-License-Identifier: Apache-2.0
"""Reading and writing files: JSON, SHA-256, and writers after which a file is complete or does not exist."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

TEMPORARY_PREFIX = ".tmp."


def sha256(path: str | os.PathLike) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: str | os.PathLike, what: str = "a JSON object") -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: the file.
        what: what the file should hold, for error messages.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not JSON in UTF-8, or its content is not an object.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path} does not exist, expected {what}")
    with open(path, encoding="utf-8") as file:
        try:
            content = json.load(file)
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON ({error}), expected {what}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a JSON {type(content).__name__}, expected an object: {what}")
    return content


@contextmanager
def atomic(path: str | os.PathLike, what: str = "the file") -> Iterator[Path]:
    """Write a file under a temporary name; rename it when the block ends without an error.

    The folder is made. The temporary file lies in it and has the same ending, because nibabel and matplotlib choose
    the format by the ending. Its name holds the process and the thread, so that several may write one file. After an
    error the temporary file is removed, and a file that had the final name before is unchanged.

    Args:
        path: the final name.
        what: what is written, with its article ("the metrics"), for the error message.

    Yields:
        The temporary name. The block must write this file, close it, and read no other file.

    Raises:
        OSError: the file cannot be written. It has the class and number of the cause; its message names the file.
    """
    path = Path(path)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}.{threading.get_ident()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            error.errno or errno.EIO,
            f"{path}: {what} cannot be written ({reason}), expected a folder with write permission and free space",
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_bytes(path: str | os.PathLike, content: bytes, what: str = "the file") -> None:
    """Write bytes; see `atomic`."""
    with atomic(path, what) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike, text: str, what: str = "the text") -> None:
    """Write text in UTF-8 with its line ends as they are; see `atomic`."""
    write_bytes(path, text.encode("utf-8"), what)


def write_json(path: str | os.PathLike, content: Mapping[str, Any], what: str = "the JSON file") -> None:
    """Write JSON with an indent of two and a final line end; see `atomic`."""
    write_text(path, json.dumps(content, indent=2) + "\n", what)


def write_csv(
    path: str | os.PathLike,
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[str] = (),
    what: str = "the table",
) -> None:
    """Write a table with a header; see `atomic`.

    Args:
        path: the CSV file.
        rows: column name -> value.
        columns: names in the header; by default the keys of the first row, or "subject" where there are no rows.
        what: see `atomic`.

    Raises:
        ValueError: a row has a key that is not in the header.
    """
    rows = list(rows)
    with atomic(path, what) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns or (rows[0] if rows else ["subject"]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_tensors(path: str | os.PathLike, content: Any, what: str = "the tensors") -> None:
    """Write what torch.load reads, such as a state dict; see `atomic`. The bytes depend on the content only."""
    with atomic(path, what) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # torch raises its own error after that of a full disk
                raise error.__context__ from None
            raise
