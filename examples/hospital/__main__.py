# SPDX-License-Identifier: Apache-2.0
"""Starts Orthanc, MONAI Label and OHIF with a CT, segments it, and serves until Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from dicomweb_client import DICOMwebClient
from pydicom import dcmread

from .browser import photograph
from .isolation import let_in, listen, raise_loopback, run_isolated
from .phantom_ct import phantom_series
from .segment import MonaiLabel, segment
from .servers import MONAI_LABEL_PORT, Server, monai_label, orthanc


def arguments() -> Namespace:
    """The command line."""
    parser = ArgumentParser(prog="python -m examples.hospital", description=__doc__)
    parser.add_argument("--app", required=True, type=Path, help="folder of MONAI Label's app, with bundles in model/")
    parser.add_argument("--model", default="gvsl_seg_heart", help="the bundle that segments")
    parser.add_argument("--folder", default="hospital", type=Path, help="for everything that the servers write")
    parser.add_argument("--study", type=Path, help="folder of DICOM files of a CT; otherwise a phantom")
    parser.add_argument("--port", default=8000, type=int, help="of OHIF and MONAI Label on 127.0.0.1")
    parser.add_argument("--picture", type=Path, help="PNG file for what OHIF shows; needs Chromium")
    parser.add_argument("--listener", type=int, help="the program gives this to itself")
    return parser.parse_args()


def upload(archive: Server, folder: Path | None) -> tuple[str, list[str]]:
    """Stores a study over DICOMweb; returns its UID and those of its CT series, without localizers.

    Args:
        archive: Orthanc.
        folder: with the DICOM files; None for the phantom.

    Raises:
        ValueError: the folder has no CT, or more than one study.
    """
    files = [dcmread(file) for file in sorted(folder.rglob("*")) if file.is_file()] if folder else phantom_series()
    studies = {str(file.StudyInstanceUID) for file in files}
    slices = [file for file in files if file.Modality == "CT" and "LOCALIZER" not in file.ImageType]
    series = {str(file.SeriesInstanceUID) for file in slices}
    if len(studies) != 1 or not series:
        raise ValueError(f"{folder}: {len(studies)} studies, {len(series)} series of CT; expected one study with a CT")
    client = DICOMwebClient(f"{archive.address}/dicom-web")
    for file in files:
        client.store_instances([file])
    return studies.pop(), sorted(series)


def serve(chosen: Namespace, listener: socket.socket) -> None:
    """Starts the servers, has the CT segmented, and waits; ends them whatever happens.

    Args:
        chosen: the command line.
        listener: socket of the address that is printed.
    """
    folder = chosen.folder.resolve()
    with orthanc(folder / "orthanc") as archive:
        study, series = upload(archive, chosen.study)
        viewer = f"/ohif/viewer?StudyInstanceUIDs={study}"
        dicomweb = f"{archive.address}/dicom-web"
        with monai_label(chosen.app.resolve(), chosen.model, dicomweb, folder / "monai_label") as server:
            for uid in series:
                names = segment(MonaiLabel(server.address, chosen.model), uid)
                print(f"series {uid}: stored {', '.join(names)}", flush=True)
            if chosen.picture:
                photograph(server.address + viewer, chosen.model, names, chosen.picture, folder / "browser")
            let_in(listener, MONAI_LABEL_PORT)
            print(f"http://127.0.0.1:{listener.getsockname()[1]}{viewer}", flush=True)
            print("Ctrl-C ends everything.", flush=True)
            signal.pause()


def main() -> None:
    """Runs `serve` in a network of its own."""
    chosen = arguments()
    if chosen.listener is None:
        run_isolated("examples.hospital", sys.argv[1:], listen(chosen.port))
    for number in (signal.SIGINT, signal.SIGTERM):  # the first process of a namespace gets no signal without a handler
        signal.signal(number, signal.default_int_handler)
    raise_loopback()
    os.environ["NO_PROXY"] = "127.0.0.1"
    try:
        serve(chosen, socket.socket(fileno=chosen.listener))
    except KeyboardInterrupt:
        print("stopped")


main()
