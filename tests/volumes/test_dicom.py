# SPDX-License-Identifier: Apache-2.0
"""DICOM folders: what is refused with its tag, what is left out, and that sound series and frames are read right."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, RTStructureSetStorage

from custom.volumes import VolumeError, check_file, load_volume, patient_id

STORED = np.random.default_rng(0).integers(900, 1200, (8, 7, 6)).astype(np.uint16)  # slices, rows, columns


def header(sop_class: str, number: int) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
    dataset.Modality, dataset.PatientID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "CT", "P7", "1.2", "1.3"
    return dataset


def image(sop_class: str, number: int, voxels: np.ndarray) -> Dataset:
    dataset = header(sop_class, number)
    dataset.InstanceNumber, dataset.SeriesDate = number + 1, "20200101"
    dataset.Rows, dataset.Columns = voxels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelData = voxels.tobytes()
    return dataset


def save(dataset: Dataset, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.is_little_endian, dataset.is_implicit_VR = True, False  # pydicom 2 asks for it, as for the next line
    dataset.save_as(path, write_like_original=False)


def write_series(folder: Path, change: Callable[[int, Dataset], None] = lambda k, dataset: None) -> Path:
    """Eight slices of 2 x 3 mm voxels, 5 mm apart; `change` gets index and header of each."""
    for k in range(8):
        dataset = image(CTImageStorage, k, STORED[k])
        dataset.PixelSpacing, dataset.SliceThickness, dataset.RescaleSlope, dataset.RescaleIntercept = (
            [2, 3],
            5,
            1,
            -1024,
        )
        dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 5 * k]
        change(k, dataset)
        save(dataset, folder / f"{k}.dcm")
    return folder


def item(**values: object) -> list[Dataset]:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return [dataset]


def write_frames(folder: Path, heights: Sequence[float], without: str = "", intercepts: Sequence[float] = ()) -> Path:
    """An enhanced CT of one frame for each height."""
    dataset = image(EnhancedCTImageStorage, 0, STORED[: len(heights)])
    dataset.NumberOfFrames = len(heights)
    shared = {
        "PixelMeasuresSequence": item(PixelSpacing=[2, 3], SliceThickness=5),
        "PlaneOrientationSequence": item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
        "PixelValueTransformationSequence": item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU"),
    }
    frames = [{"PlanePositionSequence": item(ImagePositionPatient=[0, 0, height])} for height in heights]
    for frame, intercept in zip(frames, intercepts, strict=False):
        frame["PixelValueTransformationSequence"] = item(RescaleSlope=1, RescaleIntercept=intercept, RescaleType="HU")
    groups = [{name: value for name, value in group.items() if name != without} for group in (shared, *frames)]
    shared_groups, *frame_groups = [item(**group)[0] for group in groups]
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared_groups], frame_groups
    save(dataset, folder / "frames.dcm")
    return folder


def assert_is_the_ct(folder: Path, count: int = 8) -> None:
    volume = load_volume(folder)
    np.testing.assert_array_equal(volume[0].numpy(), STORED[:count].transpose(2, 1, 0).astype(np.float32) - 1024)
    np.testing.assert_allclose(np.linalg.norm(np.asarray(volume.affine)[:3, :3], axis=0), (3, 2, 5))
    check_file(folder)


def test_a_sound_series_and_sound_frames_are_read(tmp_path):
    assert_is_the_ct(write_series(tmp_path / "slices"))
    assert_is_the_ct(write_frames(tmp_path / "frames", [0, 5, 10, 15, 20]), count=5)
    assert_is_the_ct(write_frames(tmp_path / "own", [0, 5, 10], intercepts=[-1024] * 3), count=3)
    assert patient_id(tmp_path / "slices") == "P7"


def test_objects_without_an_image_are_left_out(tmp_path, caplog):
    write_series(tmp_path)
    for modality in ("RTSTRUCT", "SR"):
        dataset = header(RTStructureSetStorage, 99)
        dataset.Modality, dataset.SeriesInstanceUID = modality, "1.9"
        save(dataset, tmp_path / f"{modality}.dcm")
    with caplog.at_level(logging.INFO):
        assert_is_the_ct(tmp_path)
    assert "left out 2 of 10 DICOM files (RTSTRUCT.dcm is RTSTRUCT, no image, SR.dcm is SR, no image)" in caplog.text
    for path in tmp_path.glob("?.dcm"):
        path.unlink()
    with pytest.raises(VolumeError, match="RTSTRUCT.dcm is RTSTRUCT, no image, .* expected one DICOM series of images"):
        load_volume(tmp_path)


def test_a_file_without_the_mark_of_dicom_is_named(tmp_path):
    """GDCM reads it, so ITK would take it for a slice of the series."""
    for path in sorted(write_series(tmp_path).iterdir()):
        content = path.read_bytes()
        path.with_suffix("").write_bytes(content[132:] if path.stem == "3" else content)
        path.unlink()
    with pytest.raises(VolumeError, match=r"1 DICOM files without the letters DICM at byte 128 \(3\), expected all"):
        load_volume(tmp_path)


def without(keyword: str, slices: Sequence[int] = range(8)) -> Callable[[int, Dataset], None]:
    return lambda k, dataset: delattr(dataset, keyword) if k in slices else None


def changed(keyword: str, value: object, slices: Sequence[int] = (4, 5, 6, 7)) -> Callable[[int, Dataset], None]:
    return lambda k, dataset: setattr(dataset, keyword, value) if k in slices else None


SLICE_FAULTS = {
    "no spacing": (without("PixelSpacing"), r"8 of 8 slices without PixelSpacing \(0028,0030\)"),
    "no spacing once": (without("PixelSpacing", [3]), r"1 of 8 slices without PixelSpacing"),
    "no position": (without("ImagePositionPatient"), r"8 of 8 slices without ImagePositionPatient \(0020,0032\)"),
    "no orientation": (without("ImageOrientationPatient", [0]), "1 of 8 slices without ImageOrientationPatient"),
    "other spacing": (changed("PixelSpacing", [2, 2], [3]), r"1 of 8 slices with another PixelSpacing .*\[2.0, 2.0\]"),
    "other orientation": (
        changed("ImageOrientationPatient", [0, 1, 0, -1, 0, 0], [2]),
        r"1 of 8 slices with another ImageOrientationPatient \(0020,0037\), \[0.0, 1.0, 0.0, -1.0, 0.0, 0.0\]",
    ),
    "hole": (changed("ImagePositionPatient", [0, 0, 400], [7]), "steps between 8 slices range from 5 to 370 mm"),
    "one position": (
        changed("ImagePositionPatient", [0, 0, 5], range(8)),
        r"8 of 8 slices at one position \(a time series\?\), expected slices at different positions",
    ),
    "three positions": (
        lambda k, dataset: setattr(dataset, "ImagePositionPatient", [0, 0, 5 * (k // 3)]),
        "3 of 8 slices at one position",
    ),
    "shifted in the plane": (
        lambda k, dataset: setattr(dataset, "ImagePositionPatient", [5 * k, 0, 0]),
        "steps between 8 slices range from 5 to 5 mm .*tilted",
    ),
    "huge": (
        lambda k, dataset: setattr(dataset, "PixelSpacing", [2000, 2000]),
        r"voxel spacing \[2000.0, 2000.0, 5.0\] mm, expected 0.01 to 100 mm",
    ),
    "thickness": (
        changed("SliceThickness", 6),
        r"split: SliceThickness \(0018,0050\) is '5.0' in 4 files and '6.0' in 4 files; expected one value",
    ),
    "date": (changed("SeriesDate", "20200102"), r"split: SeriesDate \(0008,0021\) is '20200101' in 4 files and"),
    "series": (changed("SeriesInstanceUID", "1.4"), r"2 DICOM series: 1.3 \(CT, 4 files\), 1.4 \(CT, 4 files\)"),
}


@pytest.mark.parametrize("fault", SLICE_FAULTS)
def test_faults_of_slices_are_named(fault, tmp_path):
    change, finding = SLICE_FAULTS[fault]
    write_series(tmp_path / fault, change)
    with pytest.raises(VolumeError, match=f"{fault}: .*{finding}"):
        load_volume(tmp_path / fault)


@pytest.mark.parametrize(
    ("arguments", "finding"),
    [
        ({"heights": [0, 5, 10, 20, 25]}, "steps between 5 frames range from 5 to 10 mm"),
        ({"heights": [5, 5, 5]}, "3 of 3 frames at one position .*, expected frames at different positions"),
        ({"heights": [0, 5, 10], "without": "PixelMeasuresSequence"}, "3 of 3 frames without PixelSpacing"),
        ({"heights": [0, 5, 10], "without": "PlanePositionSequence"}, "3 of 3 frames without ImagePositionPatient"),
        ({"heights": [0, 5, 10], "intercepts": [-1024, 0, 0]}, "frames with different RescaleSlope .*RescaleIntercept"),
    ],
)
def test_faults_of_frames_are_named(arguments, finding, tmp_path):
    write_frames(tmp_path, **arguments)
    with pytest.raises(VolumeError, match=finding):
        check_file(tmp_path)


def test_frames_without_any_geometry(tmp_path):
    dataset = image(CTImageStorage, 0, STORED)
    dataset.NumberOfFrames = len(STORED)
    save(dataset, tmp_path / "frames.dcm")
    with pytest.raises(VolumeError, match="8 of 8 frames without ImagePositionPatient"):
        load_volume(tmp_path)


def test_a_text_file_named_dcm_is_named(tmp_path):
    write_series(tmp_path)
    (tmp_path / "x.dcm").write_text("no DICOM at all " * 50)
    with pytest.raises(VolumeError, match="1 of 9 DICOM files cannot be read .*: x.dcm"):
        load_volume(tmp_path)
