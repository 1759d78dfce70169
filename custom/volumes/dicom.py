# SPDX-License-Identifier: Apache-2.0
"""Checks of a folder of DICOM files: one series, complete, with the geometry that the slices or frames state."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import itk
import numpy as np
from pydicom import Dataset, dcmread
from pydicom.datadict import tag_for_keyword

from .geometry import VolumeError
from .nifti import NIFTI_SUFFIXES
from .text_header import ITK_SUFFIXES

logger = logging.getLogger(__name__)

VOLUME_SUFFIXES = NIFTI_SUFFIXES + ITK_SUFFIXES  # of files; a DICOM series is a folder
SLICE_TOLERANCE = 0.1  # largest deviation of a step between slices, as a share of the slice distance
SMALLEST_STEP = 1e-3  # mm; images that are closer lie at one position
TOLERANCE = 1e-3  # between slices, of direction cosines and of the pixel spacing in mm
SPLITTING = ("SeriesDate", "SeriesNumber", "SequenceName", "SliceThickness", "Rows", "Columns")  # of ITK's series
GEOMETRY = {  # in a slice, and in the functional groups of a frame
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
}
RESCALE = ("RescaleSlope", "RescaleIntercept")
FRAMES = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
READ = ("SOPClassUID", "Modality", "SeriesInstanceUID", "NumberOfFrames", *SPLITTING, *GEOMETRY, *FRAMES)


def is_dicom_file(path: str | os.PathLike) -> bool:
    """Whether a file is a DICOM object: it ends in .dcm, or has the letters DICM at byte 128. DICOMDIR is none."""
    name = os.path.basename(path).lower()
    if name.startswith(".") or name == "dicomdir" or name.endswith(VOLUME_SUFFIXES) or not os.path.isfile(path):
        return False
    if name.endswith(".dcm"):
        return True
    with open(path, "rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def patient_id(folder: str | os.PathLike) -> str:
    """PatientID (0010,0020) of the first readable DICOM file of a folder, or "" if there is none."""
    for path in sorted(entry.path for entry in os.scandir(folder) if is_dicom_file(entry.path)):
        header = _header(path, ("PatientID",))
        if header:
            return str(header.get("PatientID") or "").strip()
    return ""


def check_dicom_series(folder: str) -> None:
    """
    Check a folder before ITK reads it: ITK only warns of unreadable files, and replaces missing geometry by 1 mm.

    Objects without an image, such as RTSTRUCT and SR, are left out with a logged line.

    Raises:
        VolumeError: there is no image, there are several series, a tag splits the series, files are truncated, or
            slices or frames have no geometry, another orientation or spacing, uneven steps, or one position.
    """
    names = sorted(entry.name for entry in os.scandir(folder) if is_dicom_file(entry.path))
    if not names:
        raise VolumeError(f"{folder}: no DICOM files in this folder, expected one DICOM series")
    headers = {name: _header(os.path.join(folder, name), READ) for name in names}
    others = {name: header for name, header in headers.items() if "SOPClassUID" in header and "Rows" not in header}
    if others:
        kinds = [f"{name} is {header.get('Modality', 'no image')}, no image" for name, header in others.items()]
        if len(others) == len(names):
            raise VolumeError(f"{folder}: {', '.join(kinds[:5])}; expected one DICOM series of images")
        logger.info(f"{folder}: left out {len(others)} of {len(names)} DICOM files ({', '.join(kinds[:5])})")
    images = {name: header for name, header in headers.items() if name not in others}
    series = Counter(str(header.get("SeriesInstanceUID", "")) for header in images.values() if "Rows" in header)
    if len(series) > 1:
        modality = {str(h.get("SeriesInstanceUID", "")): h.get("Modality", "no modality") for h in images.values()}
        listed = ", ".join(f"{uid} ({modality[uid]}, {count} files)" for uid, count in sorted(series.items()))
        raise VolumeError(f"{folder}: {len(series)} DICOM series: {listed}; expected one series per folder")
    groups = _itk_series(folder)
    readable = {os.path.basename(path) for files in groups for path in files}
    if unreadable := [name for name in images if name not in readable]:
        raise VolumeError(
            f"{folder}: {len(unreadable)} of {len(names)} DICOM files cannot be read (truncated or damaged): "
            f"{', '.join(unreadable[:5])}; expected a complete series"
        )
    if unmarked := sorted(name for name in readable - headers.keys() if name.lower() != "dicomdir"):
        raise VolumeError(
            f"{folder}: {len(unmarked)} DICOM files without the letters DICM at byte 128 ({', '.join(unmarked[:5])}), "
            "expected all files of the series with them, or with names that end in .dcm"
        )
    if len(groups) > 1:
        raise VolumeError(f"{folder}: one DICOM series is split: {_differing(images.values())}; expected one value")
    _check_geometry([images[os.path.basename(path)] for path in groups[0]], folder)


def _header(path: str, keywords: Sequence[str]) -> Dataset:
    """These elements of a DICOM file; an empty data set if it cannot be read."""
    try:
        return dcmread(path, force=True, stop_before_pixels=True, specific_tags=list(keywords))
    except Exception:  # of damaged files, many kinds; the caller names them
        return Dataset()


def _itk_series(folder: str) -> list[list[str]]:
    """The files of each series as ITK's reader groups and orders them, with the settings of MONAI's ITKReader."""
    generator = itk.GDCMSeriesFileNames.New()
    generator.SetUseSeriesDetails(True)
    generator.AddSeriesRestriction("0008|0021")
    generator.SetDirectory(folder)
    return [list(generator.GetFileNames(identifier)) for identifier in generator.GetSeriesUIDs()]


def _named(keyword: str) -> str:
    tag = tag_for_keyword(keyword) or 0
    return f"{keyword} ({tag >> 16:04x},{tag & 0xFFFF:04x})"


def _differing(headers: Iterable[Dataset]) -> str:
    """Description of the tags that split a series, with the number of files of each value."""
    headers = list(headers)
    counts = {keyword: Counter(str(header.get(keyword, "missing")) for header in headers) for keyword in SPLITTING}
    described = [
        f"{_named(keyword)} is {' and '.join(f'{value!r} in {count} files' for value, count in values.items())}"
        for keyword, values in counts.items()
        if len(values) > 1
    ]
    return ", ".join(described) or "its files differ in a tag"


def _check_geometry(headers: list[Dataset], folder: str) -> None:
    """Check the slices of a series in their order, or the frames of its only file."""
    frames = int(headers[0].get("NumberOfFrames") or 1)
    if len(headers) == 1 and frames == 1:
        return  # one slice: refused later as a 2D image
    if len(headers) > 1 and any(int(header.get("NumberOfFrames") or 1) > 1 for header in headers):
        raise VolumeError(f"{folder}: {len(headers)} files with several frames each, expected one such file per folder")
    what = "slices" if frames == 1 else "frames"
    stack = headers if frames == 1 else _frames(headers[0], frames)
    values: dict[str, np.ndarray] = {}
    for keyword in GEOMETRY:
        found = [header.get(keyword) for header in stack]
        missing = sum(not value for value in found)
        if missing:
            raise VolumeError(
                f"{folder}: {missing} of {len(stack)} {what} without {_named(keyword)}, expected position, orientation "
                f"and pixel spacing of every one of the {what}"
            )
        values[keyword] = np.array(found, dtype=np.float64)
    if (values["PixelSpacing"] <= 0).any():
        smallest = values["PixelSpacing"].min(axis=0).tolist()
        raise VolumeError(f"{folder}: {_named('PixelSpacing')} {smallest}, expected spacing above zero")
    for keyword in ("ImageOrientationPatient", "PixelSpacing"):
        apart = np.abs(values[keyword] - np.median(values[keyword], axis=0)).max(axis=1) > TOLERANCE
        if apart.any():
            odd = values[keyword][apart][0].tolist()
            raise VolumeError(
                f"{folder}: {int(apart.sum())} of {len(stack)} {what} with another {_named(keyword)}, {odd}, expected "
                f"{np.median(values[keyword], axis=0).tolist()}"
            )
    if what == "frames" and len({tuple(str(frame.get(keyword)) for keyword in RESCALE) for frame in stack}) > 1:
        raise VolumeError(f"{folder}: frames with different {_named(RESCALE[0])} or {_named(RESCALE[1])}, expected one")
    _check_steps(values["ImagePositionPatient"], values["ImageOrientationPatient"][0], what, folder)


def _frames(header: Dataset, count: int) -> list[Dataset]:
    """The geometry and rescaling of each frame of an enhanced multi-frame object, as if it were a slice."""
    shared = next(iter(header.get(FRAMES[0]) or []), Dataset())
    of_frames = list(header.get(FRAMES[1]) or [])
    of_frames += [Dataset()] * (count - len(of_frames))
    groups = {**GEOMETRY, **dict.fromkeys(RESCALE, "PixelValueTransformationSequence")}
    stack = []
    for own in of_frames[:count]:
        frame = Dataset()
        for keyword, group in groups.items():
            values = [_value(source, group, keyword) for source in (own, shared)]
            stated = [value for value in values if value is not None]
            if stated:
                setattr(frame, keyword, stated[0])
        stack.append(frame)
    return stack


def _value(groups: Dataset, group: str, keyword: str) -> Any:
    items = groups.get(group)
    return items[0].get(keyword) if items else None


def _check_steps(positions: np.ndarray, orientation: np.ndarray, what: str, folder: str) -> None:
    normal = np.cross(*orientation.reshape(2, 3))
    steps = np.diff(positions, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    distance = float(np.median(steps @ normal))
    if np.median(lengths) < SMALLEST_STEP:
        away = np.linalg.norm(positions - positions[lengths.argmin()], axis=1)
        raise VolumeError(
            f"{folder}: {int((away < SMALLEST_STEP).sum())} of {len(positions)} {what} at one position (a time "
            f"series?), expected {what} at different positions"
        )
    if np.linalg.norm(steps - distance * normal, axis=1).max() > SLICE_TOLERANCE * abs(distance):
        raise VolumeError(
            f"{folder}: steps between {len(positions)} {what} range from {lengths.min():g} to {lengths.max():g} mm "
            f"(missing, double or tilted {what}), expected even steps of {abs(distance):g} mm along the normal"
        )
