# SPDX-License-Identifier: Apache-2.0
"""How the tests use zips as a stranger does: in a clean folder, without this repository on the path."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = ("gvsl_covid_cls", "gvsl_pretrain", "gvsl_seg_brain", "gvsl_seg_coronary", "gvsl_seg_heart")


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


def run_alone(command: list[str], folder: Path, **environment: str) -> str:
    """Standard output of Python in a folder, with nothing of this repository on the path."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    kept |= {"OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1"} | environment
    done = subprocess.run([sys.executable, *command], cwd=folder, env=kept, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


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
