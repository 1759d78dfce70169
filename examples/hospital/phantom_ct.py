# SPDX-License-Identifier: Apache-2.0
"""A synthetic CT as a DICOM series, for trying the whole path without a patient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from custom.phantoms import make_cardiac_subject
from custom.phantoms.cohort import subject_seed

COHORT, SUBJECT = 7, 0  # nothing was trained with this subject


def phantom_series() -> list[Dataset]:
    """The slices of the phantom; the same UIDs at each call, so that a second upload adds no second study."""
    image, _, affine = make_cardiac_subject(subject_seed(COHORT, SUBJECT))
    return ct_series(image, affine, f"PHANTOM-{COHORT}-{SUBJECT}")


def ct_series(image: np.ndarray, affine: np.ndarray, patient: str) -> list[Dataset]:
    """A volume as slices along its third axis.

    Args:
        image: Hounsfield units of voxel [x, y, z].
        affine: from voxels to millimetres, whose axes point to the right, to the front and up, as in NIfTI.
        patient: identity of the patient, from which the UIDs come.
    """
    to_patient = np.diag([-1, -1, 1, 1]) @ affine  # axes of DICOM: to the left, to the back, up
    common = _series(patient, to_patient, image.shape)
    voxels = np.rint(image).astype(np.int16)
    return [_slice(common, voxels[:, :, number].T, number, to_patient) for number in range(image.shape[2])]


def _series(patient: str, to_patient: np.ndarray, shape: Sequence[int]) -> Dataset:
    """What all slices share."""
    spacing = np.linalg.norm(to_patient[:3, :3], axis=0)
    series = Dataset()
    series.SpecificCharacterSet = "ISO_IR 192"
    series.SOPClassUID = CTImageStorage
    series.StudyInstanceUID, series.SeriesInstanceUID, series.FrameOfReferenceUID = (
        generate_uid(entropy_srcs=[patient, level]) for level in ("study", "series", "frame of reference")
    )
    series.PatientName, series.PatientID = "SYNTHETIC^PHANTOM", patient
    series.PatientBirthDate = series.PatientSex = series.AccessionNumber = series.ReferringPhysicianName = ""
    series.StudyID, series.SeriesNumber, series.AcquisitionNumber = "1", "1", "1"
    series.StudyDate = series.ContentDate = "20260101"
    series.StudyTime = series.ContentTime = "120000"
    series.StudyDescription = "Synthetic cardiac CT phantom, no patient"
    series.SeriesDescription = "Phantom"
    series.Modality, series.Manufacturer, series.BodyPartExamined = "CT", "gvsl-bundles", "HEART"
    series.ImageType, series.PatientPosition, series.PositionReferenceIndicator = (
        ["DERIVED", "SECONDARY", "AXIAL"],
        "HFS",
        "",
    )
    series.ImageOrientationPatient = _numbers(*(to_patient[:3, :2] / spacing[:2]).T.reshape(-1))
    series.PixelSpacing, series.SliceThickness = _numbers(spacing[1], spacing[0]), _numbers(spacing[2])[0]
    series.KVP = ""
    series.SamplesPerPixel, series.PhotometricInterpretation = 1, "MONOCHROME2"
    series.Columns, series.Rows = shape[0], shape[1]
    series.BitsAllocated, series.BitsStored, series.HighBit, series.PixelRepresentation = 16, 16, 15, 1
    series.RescaleIntercept, series.RescaleSlope, series.RescaleType = "0", "1", "HU"
    series.WindowCenter, series.WindowWidth = "300", "900"
    return series


def _slice(common: Dataset, pixels: np.ndarray, number: int, to_patient: np.ndarray) -> Dataset:
    """One slice, with its place and its pixels."""
    image = Dataset()
    image.update(common)
    image.SOPInstanceUID = generate_uid(entropy_srcs=[common.SeriesInstanceUID, str(number)])
    image.InstanceNumber = str(number + 1)
    image.ImagePositionPatient = _numbers(*(to_patient @ [0, 0, number, 1])[:3])
    image.PixelData = pixels.astype("<i2").tobytes()
    image.file_meta = FileMetaDataset()
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.preamble, image.is_little_endian, image.is_implicit_VR = bytes(128), True, False
    return image


def _numbers(*values: float) -> list[str]:
    """Decimal strings, which DICOM limits to 16 characters."""
    return [f"{value:.8f}" for value in values]
