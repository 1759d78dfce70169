# SPDX-License-Identifier: Apache-2.0
"""Units, spacing and orientation in the headers of files; integer label maps; the check before training."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest
import torch

from custom.volumes import VolumeError, check_file, load_volume
from custom.volumes.text_header import check_text_header

SHAPE = (6, 5, 4)
VOXELS = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)


def nifti(path: Path, spacing: float = 6.0, unit: str = "mm", array: np.ndarray = VOXELS, codes: int = 1) -> Path:
    image = nibabel.Nifti1Image(array, np.diag([spacing, spacing, spacing, 1.0]), dtype=array.dtype)
    image.header.set_xyzt_units(unit)
    image.set_sform(image.affine, codes)
    image.set_qform(image.affine, codes)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize(("spacing", "unit"), [(6, "mm"), (6, "unknown"), (0.006, "meter"), (6000, "micron")])
@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_nifti_units_become_millimetres(spacing, unit, ending, tmp_path):
    path = nifti(tmp_path / f"a.{ending}", spacing, unit)
    np.testing.assert_allclose(load_volume(path).affine, np.diag([6, 6, 6, 1]), rtol=1e-5)
    np.testing.assert_allclose(load_volume(path).meta["original_affine"], np.diag([6, 6, 6, 1]), rtol=1e-5)


@pytest.mark.parametrize(
    ("spacing", "unit", "found"),
    [
        (6000, "mm", r"\[6000.0, 6000.0, 6000.0\] mm \(the file says millimetre\)"),
        (0.006, "mm", r"\[0.006, 0.006, 0.006\] mm \(the file says millimetre\)"),
        (6, "meter", r"\[6000.0, .*\(the file says metre\)"),
        (6, "micron", r"\[0.006, .*\(the file says micron\)"),
        (500, "unknown", r"\[500.0, 500.0, 500.0\] mm \(the file says no unit\)"),
    ],
)
def test_a_spacing_of_no_patient_is_refused_by_name(spacing, unit, found, tmp_path):
    path = nifti(tmp_path / "a.nii.gz", spacing, unit)
    for check in (load_volume, check_file):
        with pytest.raises(VolumeError, match=f"a.nii.gz: voxel spacing {found}, expected 0.01 to 100 mm"):
            check(path)


def test_an_extent_of_no_patient_and_an_unknown_unit(tmp_path):
    with pytest.raises(VolumeError, match=r"long.nii.gz: extent \[6000, 200, 200\] mm"):
        check_file(nifti(tmp_path / "long.nii.gz", 100, array=np.zeros((60, 2, 2), np.int16)))
    path = nifti(tmp_path / "a.nii")
    content = bytearray(path.read_bytes())
    content[123] = 5
    path.write_bytes(content)
    with pytest.raises(VolumeError, match="a.nii: unknown unit, code 5 in xyzt_units"):
        load_volume(path)


def test_a_nifti_file_without_orientation_is_warned_about_once(tmp_path, caplog):
    load_volume(nifti(tmp_path / "with.nii"))
    assert not caplog.records
    path = nifti(tmp_path / "without.nii", codes=0)
    load_volume(path)
    load_volume(path)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and f"{path}: the header has no orientation" in record.message
    assert "left and right are guessed" in record.message


def text_file(path: Path, compressed: bool = False) -> Path:
    image = itk.image_from_array(np.ascontiguousarray(VOXELS.T))
    image.SetSpacing([6.0, 6.0, 6.0])
    itk.imwrite(image, str(path), compression=compressed)
    return path


def edit(path: Path, old: str, new: str) -> None:
    content = path.read_bytes()
    assert old.encode() in content
    path.write_bytes(content.replace(old.encode(), new.encode()))


@pytest.mark.parametrize(
    ("name", "old", "new", "finding"),
    [
        ("a.nrrd", "space directions: ", "# ", "no voxel spacing in the header, expected the field space directions"),
        ("a.nrrd", "kinds:", 'space units: "um" "um" "um"\nkinds:', "voxel spacing in the unit 'um'"),
        ("a.mha", "ElementSpacing = 6 6 6\n", "", "no voxel spacing in the header, expected the field elementspacing"),
        ("a.mhd", "ElementSpacing = 6 6 6\n", "", "no voxel spacing"),
        ("a.mha", "CenterOf", "DistanceUnits = um\nCenterOf", "voxel spacing in the unit 'um', expected millimetres"),
        ("a.mha", "= 6 6 6", "= 500 6 6", r"voxel spacing \[500.0, 6.0, 6.0\] mm, expected 0.01 to 100 mm"),
    ],
)
def test_nrrd_and_metaimage_must_state_their_spacing(name, old, new, finding, tmp_path):
    path = text_file(tmp_path / name)
    np.testing.assert_allclose(np.abs(np.diag(load_volume(path).affine)), (6, 6, 6, 1))
    edit(path, old, new)
    for check in (load_volume, check_file):
        with pytest.raises(VolumeError, match=f"{name}: {finding}"):
            check(path)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("a.nrrd", "space directions: (6,0,0) (0,6,0) (0,0,6)", "spacings: 6 6 6"),
        ("a.mha", "TransformMatrix = 1 0 0 0 1 0 0 0 1\n", ""),
    ],
)
def test_nrrd_and_metaimage_without_orientation_are_warned_about(name, old, new, tmp_path, caplog):
    path = text_file(tmp_path / name)
    load_volume(path)
    assert not caplog.records
    edit(path, old, new)
    if name == "a.nrrd":
        edit(path, "space: left-posterior-superior\n", "")
        edit(path, "space origin: (0,0,0)\n", "")
    load_volume(path)
    assert "the header has no orientation" in caplog.text


@pytest.mark.parametrize(
    ("line", "is_anatomical"),
    [
        ("space: RAS", True),
        ("space: LPS", True),
        ("space: last", True),
        ("space: Right-Anterior-Superior", True),
        ("space: left-anterior-superior-time", True),
        ("space dimension: 3", False),
        ("space: scanner-xyz", False),
        ("space: 3D-right-handed", False),
    ],
)
def test_an_nrrd_file_in_a_space_that_is_not_anatomical_is_warned_about(line, is_anatomical, tmp_path, caplog):
    path = text_file(tmp_path / "a.nrrd")
    edit(path, "space: left-posterior-superior", line)
    check_text_header(str(path))
    space = line.removeprefix("space: ") if "dimension" not in line else "absent"
    warning = (
        f"{path}: the space is {space}, expected an anatomical one such as left-posterior-superior: left and right"
    )
    assert (warning in caplog.text) == (not is_anatomical)


@pytest.mark.parametrize("lines", [0, 3, 9])
def test_a_truncated_mhd_header(lines, tmp_path):
    path = text_file(tmp_path / "a.mhd")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))
    with pytest.raises(VolumeError, match="a.mhd: cannot be read, .*the header has no end"):
        check_file(path)


# ------------------------------------------------------------------------------------------------------- label maps

IDS = np.array([0, 1, 2**24, 2**24 + 1, 2**31 - 1, 2**32 - 1], dtype=np.int64)


def label_map(largest: int) -> np.ndarray:
    return IDS[IDS <= largest][np.arange(120) % (IDS <= largest).sum()].reshape(SHAPE)


@pytest.mark.parametrize(
    ("pixel_type", "ending", "expected"),
    [
        (np.int32, "nii.gz", torch.int32),
        (np.uint32, "nii.gz", torch.int64),
        (np.int64, "nii.gz", torch.int64),
        (np.uint64, "nii.gz", torch.int64),
        (np.float64, "nii.gz", torch.int64),
        (np.int32, "nrrd", torch.int32),
        (np.uint32, "mha", torch.int64),
    ],
)
def test_label_maps_keep_their_integers(pixel_type, ending, expected, tmp_path):
    values = label_map(2**31 - 1 if pixel_type == np.int32 else 2**32 - 1)
    path = tmp_path / f"a.{ending}"
    if ending == "nii.gz":
        nifti(path, array=values.astype(pixel_type))
    else:
        itk.imwrite(itk.image_from_array(np.ascontiguousarray(values.astype(pixel_type).T)), str(path))
    label = load_volume(path, is_label=True)
    assert label.dtype == expected
    np.testing.assert_array_equal(label[0].numpy(), values)


def test_small_label_maps_are_int32(tmp_path):
    for pixel_type in (np.uint8, np.int16, np.float32):
        label = load_volume(nifti(tmp_path / "a.nii", array=(VOXELS > 0).astype(pixel_type)), is_label=True)
        assert label.dtype == torch.int32 and label.unique().tolist() == [0, 1]


def test_label_values_that_their_pixel_type_merges_are_refused(tmp_path):
    path = nifti(tmp_path / "a.nii", array=label_map(2**24 + 1).astype(np.float32) * 2)
    with pytest.raises(VolumeError, match="a.nii: label values from 0 to 33554432 in torch.float32, .* up to 16777216"):
        load_volume(path, is_label=True)
    path = nifti(tmp_path / "b.nii", array=label_map(1).astype(np.uint64) * np.uint64(2**63))
    with pytest.raises(VolumeError, match="b.nii: label value 9223372036854775808, expected at most"):
        load_volume(path, is_label=True)


# ----------------------------------------------------------------------------------------------------- check_file


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.mhd"])
def test_check_file_finds_truncated_files_without_reading_voxels(name, compressed, tmp_path, monkeypatch):
    path = nifti(tmp_path / name) if ".nii" in name else text_file(tmp_path / name, compressed)
    with monkeypatch.context() as patch:
        patch.setattr("custom.volumes.read.load_volume", lambda *arguments: pytest.fail("all voxels are read"))
        check_file(path)
    (data,) = [file for file in tmp_path.iterdir() if file.suffix != ".mhd"]
    data.write_bytes(data.read_bytes()[:-20])
    with pytest.raises(VolumeError, match=f"{name}: "):
        check_file(path)


def test_check_file_reads_no_voxels_of_a_compressed_file(tmp_path, monkeypatch):
    path = nifti(tmp_path / "a.nii.gz")
    content = gzip.decompress(path.read_bytes())
    parts = tmp_path / "parts.nii.gz"
    parts.write_bytes(gzip.compress(content[:400]) + gzip.compress(content[400:]))  # as bgzip writes it
    check_file(parts)
    monkeypatch.setattr("custom.volumes.nifti.gzip.open", lambda name: pytest.fail(f"{name} is decompressed"))
    check_file(path)


def test_check_file_names_what_is_no_volume(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    for name, finding in (("a.png", "unknown format"), ("none.nii", "no such file"), (".", "no DICOM files")):
        with pytest.raises(VolumeError, match=finding):
            check_file(tmp_path / name)
