# SPDX-License-Identifier: Apache-2.0
"""A CT in Orthanc, segmented by a bundle in MONAI Label, stored as DICOM-SEG and shown by OHIF."""
