# SPDX-License-Identifier: Apache-2.0
"""What a failing command prints: its reason in a few lines, last, and the file that has the traceback."""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
import traceback
from types import TracebackType

from ..files import write_text
from .output_lock import held_directory

LOG = "error.log"
LINES = 8  # of a reason, at most
WIDTH = 600  # characters of a line, at most
# messages of MONAI around an error of a component, an expression or a transform
WRAPPERS = ("Failed to instantiate ", "Failed to evaluate ", "applying transform ")
# what MONAI and ignite log about an error before it reaches the screen
LOGGED = ("Engine run is terminating due to exception", "Current run is terminating due to exception", "Exception: ")
BETWEEN_CAUSES = re.compile(
    r"\n\n(?:The above exception was the direct cause of|During handling of the above exception, another).*\n\n"
)


def show_reasons() -> None:
    """From now on an error that ends this process prints its reason alone; DEBUG=1 prints the traceback too."""
    sys.excepthook = print_reason
    if not _debug():
        logging.setLoggerClass(_Quiet)
        for logger in logging.root.manager.loggerDict.values():
            if isinstance(logger, logging.Logger):
                logger.addFilter(_is_news)


def print_reason(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write the traceback to a file; print its name and the reason. It has the arguments of `sys.excepthook`."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return
    if _debug():
        sys.__excepthook__(kind, error, trace)
    text = _in_unicode("".join(traceback.format_exception(kind, error, trace)))
    lines = [line[:WIDTH] for line in _in_unicode(reason(error)).splitlines()]
    if len(lines) > LINES:
        lines = [*lines[: LINES - 1], f"... and {len(lines) - LINES + 1} more lines in the file of the traceback"]
    print(f"The traceback is in {_write(text)} (DEBUG=1 prints it).", *lines, sep="\n", file=sys.stderr, flush=True)


def reason(error: BaseException) -> str:
    """Type and message of an error without what MONAI and the workers of a DataLoader put around it."""
    expression = ""
    while str(error).startswith(WRAPPERS) and error.__cause__ is not None:
        expression = _expression(error)
        error = error.__cause__
    message = _of_worker(str(error)) or f"{type(error).__name__}: {error}"
    return message + (f", in {expression}" if expression else "")


def _expression(error: BaseException) -> str:
    """The expression of a config if the cause of MONAI's error arose in itself, not in what it calls; else ""."""
    frames = traceback.extract_tb(error.__cause__.__traceback__)
    of_config = bool(frames) and frames[-1].filename == "<string>"
    return str(error).partition("\n")[2].strip() if of_config else ""


def _of_worker(message: str) -> str | None:
    """Type and message of the error that a DataLoader worker sent as the text of a traceback, or None."""
    if "Traceback (most recent call last):\n" not in message:
        return None
    reasons = []
    for part in BETWEEN_CAUSES.split(message):
        lines = part.rpartition("Traceback (most recent call last):\n")[2].splitlines()
        first = next((number for number, line in enumerate(lines) if line[:1].strip()), 0)
        kind, _, text = "\n".join(lines[first:]).partition(": ")
        reasons.append((kind.rpartition(".")[2], text))
    own = [pair for pair in reasons if not pair[1].startswith(WRAPPERS)] or reasons
    return ": ".join(own[-1])


def _write(text: str) -> str:
    """Write a traceback into the output of the run or, before it is locked, into a temporary file; give its path."""
    directory = held_directory()
    if directory is not None:
        try:
            write_text(directory / LOG, text, "the traceback")
            return str(directory / LOG)
        except OSError:  # the disk may be what failed
            pass
    try:
        with tempfile.NamedTemporaryFile("w", suffix=f"_{LOG}", delete=False, encoding="utf-8") as file:
            file.write(text)
        return file.name
    except OSError as error:
        return f"no file ({error})"


def _in_unicode(text: str) -> str:
    """The text with the bytes of a path that is no UTF-8 as escapes, which any file and screen takes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _debug() -> bool:
    return os.environ.get("DEBUG", "0") not in ("", "0")


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a log record says more than that an error is on its way to the screen."""
    return record.levelno < logging.ERROR or not str(record.msg).startswith(LOGGED)


class _Quiet(logging.Logger):
    """A logger that leaves out records about an error that the screen will show."""

    def __init__(self, name: str, level: int = logging.NOTSET) -> None:
        super().__init__(name, level)
        self.addFilter(_is_news)
