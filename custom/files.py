# SPDX-License-Identifier: Apache-2.0
"""Reading and writing files: JSON, SHA-256, and writers after which a file is complete or does not exist."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import logging
import math
import os
import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)
TEMPORARY_PREFIX = ".tmp."
TEMPORARY_ENDING = 150  # bytes of the final name in a temporary one: a file system takes 255 for the whole
TEMPORARY_NAME = re.compile(r"\.tmp\.(?P<host>[^.]*)\.(?P<process>\d+)\.\d+\..+")
ABANDONED_AFTER = 24 * 3600  # seconds; a temporary file of another computer that is older belongs to no running process


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
    with open(path, encoding="utf-8-sig") as file:  # some editors begin a file with a byte order mark
        try:
            content = json.load(file)
        except RecursionError as error:
            raise ValueError(f"{path} is nested too deeply, expected {what}") from error
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON ({error}), expected {what}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a JSON {type(content).__name__}, expected an object: {what}")
    return content


@contextmanager
def naming_the_file(path: str | os.PathLike, what: str) -> Iterator[None]:
    """Turn an OSError of the block into one whose message names the file.

    Args:
        path: the file that the block writes.
        what: what is written, with its article.

    Raises:
        OSError: of the class and number of the cause. An error of a block within, which names its file, stays.
    """
    try:
        yield
    except OSError as error:
        if hasattr(error, "of_file"):
            raise
        reason = error.strerror or str(error)
        named = OSError(
            error.errno or errno.EIO,
            f"{path}: {what} cannot be written ({reason}), expected a folder with write permission and free space",
        )
        named.of_file = path
        raise named from error


@contextmanager
def atomic(path: str | os.PathLike, what: str = "the file") -> Iterator[Path]:
    """Write a file under a temporary name; rename it when the block ends without an error.

    The folder is made. The temporary file lies in it and has the same ending, because nibabel and matplotlib choose
    the format by the ending. Its name holds computer, process and thread, so that several may write one file. After an
    error the temporary file is removed, and a file that had the final name before is unchanged. The file of a process
    that was killed stays; see `remove_leftovers`.

    Args:
        path: the final name.
        what: what is written, with its article ("the metrics"), for the error message.

    Yields:
        The temporary name. The block must write this file, close it, and read no other file.

    Raises:
        OSError: the file cannot be written. It has the class and number of the cause; its message names the file.
    """
    path = Path(path)
    ending = os.fsencode(path.name)[-TEMPORARY_ENDING:].decode(errors="ignore")
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{_computer()}.{os.getpid()}.{threading.get_ident()}.{ending}")
    try:
        with naming_the_file(path, what):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def remove_leftovers(*folders: str | os.PathLike) -> list[Path]:
    """Remove the temporary files that killed processes left in folders, not in the folders below them.

    A file stays while its process runs. A file of another computer, which may share the folder, stays for a day.

    Args:
        folders: some may be missing.

    Returns:
        The removed files.
    """
    found = (path for folder in set(map(Path, folders)) for path in folder.glob(f"{TEMPORARY_PREFIX}*"))
    leftovers = [path for path in found if _is_leftover(path)]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return leftovers


def _computer() -> str:
    return re.sub(r"[^\w-]", "_", socket.gethostname())[:60]


def _is_leftover(path: Path) -> bool:
    match = TEMPORARY_NAME.fullmatch(path.name)
    if match is None or not path.is_file():
        return False
    if match["host"] == _computer():
        return not _runs(int(match["process"]))
    return time.time() - path.stat().st_mtime > ABANDONED_AFTER


def _runs(process: int) -> bool:
    if os.name == "nt":  # os.kill ends processes there
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # a process of another user
        return True
    return True


def set_aside(folder: str | os.PathLike, names: Iterable[str]) -> Path | None:
    """Move files of an earlier run to earlier/NUMBER in their folder, and remove what a killed run left.

    Args:
        folder: output of a run; it may be missing.
        names: files and folders below it; those that do not exist are left out.

    Returns:
        earlier/NUMBER, or None if there is nothing to move.
    """
    folder, names = Path(folder), set(names)
    remove_leftovers(folder, *(folder / name for name in names), *((folder / name).parent for name in names))
    existing = sorted(name for name in names if (folder / name).exists())
    if not existing:
        return None
    number = 1 + max((int(path.name) for path in folder.glob("earlier/*") if path.name.isdigit()), default=0)
    target = folder / "earlier" / str(number)
    for name in existing:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(folder / name, target / name)
    logger.info(f"moved an earlier run from {folder} to {target}")
    return target


def write_bytes(path: str | os.PathLike, content: bytes, what: str = "the file") -> None:
    """Write bytes; see `atomic`."""
    with atomic(path, what) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike, text: str, what: str = "the text") -> None:
    """Write text in UTF-8 with its line ends as they are; see `atomic`."""
    write_bytes(path, text.encode("utf-8"), what)


def write_json(path: str | os.PathLike, content: Mapping[str, Any], what: str = "the JSON file") -> None:
    """Write JSON; see `json_text` and `atomic`."""
    write_text(path, json_text(path, content, what), what)


def json_text(path: str | os.PathLike, content: Mapping[str, Any], what: str) -> str:
    """JSON with an indent of two and a final line end. `path` and `what` name it in the error.

    Raises:
        ValueError: a number is NaN or infinite, which JSON does not have (`finite` replaces it by None).
    """
    try:
        return json.dumps(content, indent=2, allow_nan=False) + "\n"
    except ValueError as error:
        raise ValueError(f"{path}: NaN or infinity in {what}, expected numbers that JSON has ({error})") from error


def finite(value: Any) -> float | None:
    """A value as a float; None for NaN and infinity, which JSON does not have."""
    value = float(value)
    return value if math.isfinite(value) else None


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
    with atomic(path, what) as temporary:
        save_tensors(temporary, content)


def save_tensors(path: Path, content: Any) -> None:
    """Write what torch.load reads under the name itself, without `atomic`.

    Raises:
        OSError: it cannot be written.
    """
    import torch  # takes seconds, which readers of JSON need not wait

    with open(path, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # torch raises its own error after that of a full disk
                raise error.__context__ from None
            raise


def load_tensors(path: str | os.PathLike, **options: Any) -> Any:
    """What torch.load reads from a file of tensors, texts, numbers, lists and dictionaries; no other pickled objects.

    Args:
        path: the file.
        options: of torch.load, such as `map_location`.

    Raises:
        ValueError: the file is damaged or holds something else. The message does not name it.
    """
    import torch

    try:
        return torch.load(path, weights_only=True, **options)
    except Exception as error:  # of damaged bytes, torch and pickle raise errors of any class
        raise ValueError(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}") from error
