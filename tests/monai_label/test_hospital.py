# SPDX-License-Identifier: Apache-2.0
"""examples/hospital: a CT from Orthanc through MONAI Label to a DICOM-SEG in Orthanc, and OHIF in Chromium.

With HOSPITAL_PICTURE set, the picture of OHIF goes to that file.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import requests
from matplotlib.image import imread
from pydicom.dataset import Dataset
from skimage.color import lab2rgb

from custom.phantoms import CARDIAC_LABELS, make_cardiac_subject
from custom.phantoms.cohort import subject_seed
from examples.hospital.segment import STRUCTURES, MonaiLabel

PROGRAMS = ("Orthanc", "chromium", "chromedriver", "unshare", "ip")
MISSING = [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")]
pytestmark = [
    pytest.mark.monailabel,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (docs/monai_label.md)"),
]
ROOT = Path(__file__).resolve().parents[2]
HEART = "gvsl_seg_heart"
NAMES = list(CARDIAC_LABELS)
ENDS_IN = 60  # seconds at most


class Hospital:
    """The running example.

    Args:
        process: the example.
        study: address of the study in OHIF, as the example printed it.
    """

    def __init__(self, process: subprocess.Popen, study: str) -> None:
        self.process, self.study = process, study.rpartition("=")[2]
        self.address = study.partition("/ohif")[0]

    def find(self, path: str) -> list[Dataset]:
        """What QIDO-RS finds at a path below the study."""
        answer = requests.get(f"{self.address}/proxy/dicom/qido/studies/{self.study}/{path}", timeout=60)
        answer.raise_for_status()
        return [Dataset.from_json(found) for found in answer.json()]

    def instances(self, series: str) -> list[Dataset]:
        """The files of a series, over WADO-RS."""
        answer = requests.get(f"{self.address}/proxy/dicom/wado/studies/{self.study}/series/{series}", timeout=60)
        answer.raise_for_status()
        boundary = answer.headers["Content-Type"].partition("boundary=")[2].strip('"').encode()
        parts = answer.content.split(b"--" + boundary)[1:-1]
        return [pydicom.dcmread(io.BytesIO(part.partition(b"\r\n\r\n")[2])) for part in parts]

    def segmentations(self) -> dict[str, Dataset]:
        """The DICOM-SEG files of the study by the UID of their series."""
        series = [str(found.SeriesInstanceUID) for found in self.find("series") if found.Modality == "SEG"]
        return {uid: file for uid in series for file in self.instances(uid)}


@contextmanager
def hospital(python: Path, app: Path, folder: Path, picture: Path) -> Iterator[Hospital]:
    """The example from its start to Ctrl-C, after which nothing of it is left."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        python,
        "-m",
        "examples.hospital",
        "--app",
        app,
        "--folder",
        folder,
        "--port",
        port,
        "--picture",
        picture,
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8"}
    process = subprocess.Popen([str(part) for part in command], cwd=ROOT, start_new_session=True, **pipes)
    network = None
    try:
        printed = []
        while not (line := process.stdout.readline()).startswith("http://"):
            printed.append(line)
            assert line, "".join(printed)  # it ended
        network = os.readlink(f"/proc/{process.pid}/ns/net")
        yield Hospital(process, line.strip())
    finally:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        rest, _ = process.communicate(timeout=ENDS_IN)
    assert process.returncode == 0 and rest.splitlines()[-1] == "stopped"
    assert not processes_in(network)


def processes_in(network: str) -> list[str]:
    """The processes in a network namespace."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found += [process.name] if os.readlink(process / "ns" / "net") == network else []
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # it has ended, or is another user's
            continue
    return found


def assert_only_loopback(process: subprocess.Popen, port: int) -> None:
    """The servers' network has no other interface, and the one way in listens on 127.0.0.1."""
    interfaces = [
        line.split(":")[0].strip() for line in Path(f"/proc/{process.pid}/net/dev").read_text().splitlines()[2:]
    ]
    assert interfaces == ["lo"] and os.readlink(f"/proc/{process.pid}/ns/net") != os.readlink("/proc/self/ns/net")
    sockets = [
        line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]
    ]
    assert [words[1] for words in sockets if words[3] == "0A" and words[1].endswith(f":{port:04X}")] == [
        f"0100007F:{port:04X}"
    ]


def dice(file: Dataset) -> dict[str, float]:
    """Dice of each segment with the phantom's structure of its name."""
    _, reference, affine = make_cardiac_subject(subject_seed(7, 0))
    to_voxels = np.linalg.inv(np.diag([-1, -1, 1, 1]) @ affine)
    segments = {segment.SegmentNumber: segment.SegmentLabel for segment in file.SegmentSequence}
    drawn = {name: np.zeros(reference.shape, bool) for name in segments.values()}
    shared = file.SharedFunctionalGroupsSequence[0]
    along_row, along_column = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(
        float
    )
    between_rows, between_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    for frame, pixels in zip(file.PerFrameFunctionalGroupsSequence, file.pixel_array, strict=True):
        rows, columns = np.nonzero(pixels)
        origin = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        places = origin + np.outer(columns * between_columns, along_row) + np.outer(rows * between_rows, along_column)
        voxels = places @ to_voxels[:3, :3].T + to_voxels[:3, 3]
        np.testing.assert_allclose(voxels, np.rint(voxels), atol=0.01)
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        drawn[segments[number]][tuple(np.rint(voxels).astype(int).T)] = True
    pairs = {name: (mask, reference == CARDIAC_LABELS[name]) for name, mask in drawn.items()}
    return {name: 2 * (one & other).sum() / (one.sum() + other.sum()) for name, (one, other) in pairs.items()}


def colour(segment: Dataset) -> list[int]:
    """The colour of a segment in red, green and blue from 0 to 255."""
    lightness, a, b = np.array(segment.RecommendedDisplayCIELabValue) / 65535
    return list(np.rint(255 * lab2rgb([100 * lightness, 255 * a - 128, 255 * b - 128])).astype(int))


def assert_is_segmentation(file: Dataset, slices: list[Dataset], names: list[str]) -> None:
    """A DICOM-SEG of a CT with segments of these names, in their colours, where the structures are."""
    structures = json.loads(STRUCTURES.read_text())
    first = slices[0]
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
        assert file[keyword].value == first[keyword].value
    (referenced,) = file.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == first.SeriesInstanceUID
    used = {instance.ReferencedSOPInstanceUID for instance in referenced.ReferencedInstanceSequence}
    assert used and used <= {image.SOPInstanceUID for image in slices}
    segments = list(file.SegmentSequence)
    assert [segment.SegmentLabel for segment in segments] == names
    assert [segment.SegmentNumber for segment in segments] == list(range(1, len(names) + 1))  # DICOM has no gaps here
    for segment in segments:
        structure, (code,) = structures[segment.SegmentLabel], segment.SegmentedPropertyTypeCodeSequence
        assert (code.CodeValue, code.CodingSchemeDesignator) == (structure["code"], "SCT")
        assert code.CodeMeaning == structure["meaning"]
        assert np.abs(np.subtract(colour(segment), structure["colour"])).max() <= 1
        assert segment.SegmentAlgorithmType == "AUTOMATIC" and segment.SegmentAlgorithmName == HEART
    scores = dice(file)
    assert min(scores.values()) > 0.75, scores


def assert_shows(picture: Path) -> None:
    """The picture of OHIF has each structure in its colour, outside of the list of names."""
    pixels = np.rint(255 * imread(picture)[60:, 290:1210, :3])
    structures = json.loads(STRUCTURES.read_text())
    for name in NAMES:
        close = np.abs(pixels - structures[name]["colour"]).max(2) <= 30  # structures are half transparent
        assert close.sum() > 300, name


def test_from_orthanc_to_ohif(
    python: Path, app: Path, add_bundle: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    add_bundle()
    picture = Path(os.environ.get("HOSPITAL_PICTURE", tmp_path / "ohif.png")).resolve()
    with hospital(python, app, tmp_path / "hospital", picture) as running:
        assert_only_loopback(running.process, int(running.address.rpartition(":")[2]))
        assert_shows(picture)
        (ct,) = [str(found.SeriesInstanceUID) for found in running.find("series") if found.Modality == "CT"]
        slices = running.instances(ct)
        ((uid, file),) = running.segmentations().items()
        assert_is_segmentation(file, slices, NAMES)

        server = MonaiLabel(running.address, HEART)
        (tmp_path / "label.nii.gz").write_bytes(server.infer(ct))
        volume = nibabel.load(tmp_path / "label.nii.gz")
        voxels = np.asarray(volume.dataobj).astype(np.uint8)
        for absent in ("right_atrium", "myocardium"):
            voxels[voxels == NAMES.index(absent) + 1] = 0
        nibabel.save(nibabel.Nifti1Image(voxels, volume.affine), tmp_path / "two_absent.nii.gz")
        present = [name for name in NAMES if name not in ("right_atrium", "myocardium")]
        assert server.store(ct, tmp_path / "two_absent.nii.gz") == present
        (second,) = [other for series, other in running.segmentations().items() if series != uid]
        assert_is_segmentation(second, slices, present)

        nibabel.save(nibabel.Nifti1Image(0 * voxels, volume.affine), tmp_path / "empty.nii.gz")
        with pytest.raises(ValueError, match="no structure"):
            server.store(ct, tmp_path / "empty.nii.gz")
        assert len(running.segmentations()) == 2
