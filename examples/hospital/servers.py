# SPDX-License-Identifier: Apache-2.0
"""Orthanc, MONAI Label and chromedriver, each from `with` to its end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import requests

from custom.files import write_json

DICOMWEB_PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"  # of Debian's orthanc-dicomweb
ORTHANC_PORT, MONAI_LABEL_PORT, CHROMEDRIVER_PORT = 8042, 8000, 9515
STARTS_IN, STOPS_IN = 300, 20  # seconds at most


class Server:
    """A program that answers on the loopback address while its `with` block runs.

    Args:
        command: starts it; the program must be on PATH.
        folder: where it runs, with what it prints in `NAME.log`.
        port: where it listens.
        path: of an address that answers as soon as the program is ready.
        variables: of its environment, besides our own.
    """

    def __init__(
        self, command: list[str], folder: Path, port: int, path: str, variables: dict[str, str] | None = None
    ) -> None:
        self.command, self.folder, self.path = command, folder, path
        self.address = f"http://127.0.0.1:{port}"
        self.environment = os.environ | (variables or {})
        self.log = folder / f"{Path(command[0]).name}.log"

    def __enter__(self) -> Server:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Asks the program and what it has started to end, and ends them where they do not."""
        for sent in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, sent)
            except ProcessLookupError:
                return
            try:
                self.process.wait(STOPS_IN)
            except subprocess.TimeoutExpired:
                continue

    def _wait_until_it_answers(self) -> None:
        session = requests.Session()
        session.trust_env = False  # no proxy
        end = time.monotonic() + STARTS_IN
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.command[0]} ended with {self.process.returncode}, see {self.log}")
            try:
                session.get(self.address + self.path, timeout=STARTS_IN).raise_for_status()
                return
            except requests.ConnectionError:
                time.sleep(0.2)
        raise TimeoutError(f"{self.command[0]} does not answer after {STARTS_IN} seconds, see {self.log}")


def orthanc(folder: Path) -> Server:
    """Orthanc with DICOMweb alone: it takes files over HTTP and has no port for DICOM.

    Args:
        folder: for its files.
    """
    configuration = {
        "Name": "Hospital",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [DICOMWEB_PLUGIN],
        "HttpPort": ORTHANC_PORT,
        "DicomServerEnabled": False,
        "AuthenticationEnabled": False,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    write_json(folder / "orthanc.json", configuration)
    program = shutil.which("Orthanc", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise FileNotFoundError("Orthanc is not installed: apt-get install orthanc orthanc-dicomweb")
    return Server([program, str(folder / "orthanc.json")], folder, ORTHANC_PORT, "/system")


def monai_label(app: Path, models: str, dicomweb: str, folder: Path) -> Server:
    """MONAI Label on the studies of a DICOMweb server.

    Args:
        app: folder of the app, with bundles in `model`.
        models: names of bundles, separated by commas.
        dicomweb: address of the studies.
        folder: for what it downloads and for the label maps.
    """
    programs = Path(sys.executable).parent  # with itkimage2segimage, which MONAI Label would download otherwise
    variables = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "MONAI_LABEL_DICOMWEB_CACHE_PATH": str(folder / "cache"),
        "MONAI_LABEL_SESSION_PATH": str(folder / "sessions"),
    }
    command = monai_label_command(sys.executable, app, dicomweb, models, MONAI_LABEL_PORT)
    return Server(command, folder, MONAI_LABEL_PORT, "/info/", variables)


def monai_label_command(python: str, app: Path, studies: str, models: str, port: int) -> list[str]:
    """Starts MONAI Label on the loopback address, without a look at the internet for bundles.

    Args:
        python: interpreter that has MONAI Label.
        app: folder of the app, with bundles in `model`.
        studies: folder or address of the studies.
        models: names of bundles, separated by commas.
        port: where it listens.
    """
    command = [python, "-m", "monailabel.main", "start_server", "--app", str(app), "--studies", studies]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    for name, value in {"models": models, "zoo_source": "local", "sam2": "false"}.items():
        command += ["--conf", name, value]
    return command


def chromedriver(folder: Path) -> Server:
    """The server that drives Chromium, as W3C WebDriver says.

    Args:
        folder: for its log.
    """
    return Server(["chromedriver", f"--port={CHROMEDRIVER_PORT}"], folder, CHROMEDRIVER_PORT, "/status")
