# SPDX-License-Identifier: Apache-2.0
"""A real MONAI Label server on 127.0.0.1, and the requests that 3D Slicer's module makes of it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests

from examples.hospital.servers import Server, monai_label_command

TRAINS_IN = 900  # seconds at most


class MonaiLabelServer(Server):
    """Runs from `with` to its end, whatever happens between them; its process group goes with it.

    Args:
        python: interpreter of the environment that has MONAI Label. app: folder of the app, with bundles in model/.
        studies: folder of the studies. models: names of bundles. log: file for what the server prints.
    """

    def __init__(self, python: Path, app: Path, studies: Path, models: Sequence[str], log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = monai_label_command(str(python), app, str(studies), ",".join(models), port)
        super().__init__(command, log.parent, port, "/info/")
        self.log = log
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHONPATH", "MONAI_LABEL"))}
        self.environment = kept | {"OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1"}

    def tail(self) -> str:
        """The end of what the server printed."""
        return self.log.read_text()[-5000:]

    def _ask(self, method: str, path: str, **arguments: Any) -> requests.Response:
        session = requests.Session()
        session.trust_env = False  # no proxy
        answer = session.request(method, self.address + path, timeout=TRAINS_IN, **arguments)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:500]}\n{self.tail()}"
        return answer

    def info(self) -> dict[str, Any]:
        """What the server offers."""
        return self._ask("GET", "/info/").json()

    def infer(self, model: str, image: str, file: Path) -> dict[str, Any]:
        """Writes the label map of a study to a file; returns what comes with it."""
        parameters = {"params": json.dumps({"device": "cpu"})}
        answer = self._ask("POST", f"/infer/{model}", params={"image": image}, data=parameters)
        boundary = answer.headers["Content-Type"].partition("boundary=")[2].strip('"').encode()
        parts = {}
        for part in answer.content.split(b"--" + boundary)[1:-1]:
            head, _, body = part.partition(b"\r\n\r\n")
            parts[head.decode().partition('name="')[2].partition('"')[0]] = body[:-2]  # a line end closes a part
        file.write_bytes(parts["image"])
        return json.loads(parts["params"])

    def save_label(self, image: str, file: Path) -> None:
        """Submits a finished label map."""
        with file.open("rb") as stream:
            self._ask("PUT", "/datastore/label", params={"image": image, "tag": "final"}, files={"label": stream})

    def train(self, model: str, **parameters: Any) -> None:
        """Trains in a process of the server's own, as 3D Slicer has it do, and waits for the end."""
        self._ask("POST", f"/train/{model}", json={"device": "cpu", **parameters})
        end = time.monotonic() + TRAINS_IN
        while time.monotonic() < end:
            task = self._ask("GET", "/train/").json()
            if task["status"] == "DONE":
                return
            assert task["status"] != "ERROR", "\n".join(task["details"])
            time.sleep(1)
        raise TimeoutError(f"training has not ended after {TRAINS_IN} seconds:\n{self.tail()}")
