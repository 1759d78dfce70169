# SPDX-License-Identifier: Apache-2.0
"""How the tests use zips as a stranger does: in a clean folder, without this repository on the path."""

from __future__ import annotations

import atexit
import os
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from warm import WarmProcess

from tools import zoo

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = ("gvsl_covid_cls", "gvsl_pretrain", "gvsl_seg_brain", "gvsl_seg_coronary", "gvsl_seg_heart")

TINY: dict[str, dict[str, Any]] = {name: zoo.OVERRIDES.get(name, zoo.SHORT | zoo.SEGMENTATION) for name in BUNDLES}


def zip_of(dist: Path, name: str) -> Path:
    """The zip of a bundle in a folder of zips."""
    return next(dist.glob(f"{name}_v*.zip"))


def version_of(dist: Path, name: str) -> str:
    """The version in the name of a bundle's zip."""
    return zip_of(dist, name).stem.removeprefix(f"{name}_v")


def unpacked(dist: Path, name: str, folder: Path) -> Path:
    """A folder that holds nothing but an unpacked zip."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(zip_of(dist, name)) as archive:
        archive.extractall(folder)
    return folder


def clean_environment(**variables: str) -> dict[str, str]:
    """Environment variables of a process that does not know this repository."""
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return inherited | {"OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1"} | variables


def run_alone(command: list[str], folder: Path) -> str:
    """Standard output of Python in a folder, with nothing of this repository on the path."""
    done = stranger().run(command, folder)
    assert done.status == 0, done.errors[-3000:]
    return done.output


@cache
def stranger() -> WarmProcess:
    """A process with MONAI and without this repository on the path."""
    process = WarmProcess(clean_environment())
    atexit.register(process.close)
    return process


def bundle_command(verb: str, **arguments: Any) -> list[str]:
    """`-m monai.bundle VERB --name value ...` for `run_alone`."""
    return [
        "-m",
        "monai.bundle",
        verb,
        *(part for key, value in arguments.items() for part in (f"--{key}", str(value))),
    ]


@contextmanager
def served(folder: Path, handler: type[SimpleHTTPRequestHandler] = SimpleHTTPRequestHandler) -> Iterator[str]:
    """Address of a loopback server of a folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
