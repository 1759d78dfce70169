# SPDX-License-Identifier: Apache-2.0
"""The files of a volume, and their state."""

from __future__ import annotations

import os
from pathlib import Path

import itk
import numpy as np
import pytest

from custom.volumes import files_of, volume_state


def names(path: Path) -> list[str]:
    return [Path(name).name for name in files_of(path)]


@pytest.mark.parametrize(
    ("name", "header", "others"),
    [
        ("a.mhd", "NDims = 3\nElementDataFile = a.raw\n", ["a.raw"]),
        ("a.mhd", "NDims = 3\r\nelementdatafile=a.raw\r\n", ["a.raw"]),
        ("a.mhd", "NDims = 3\nElementDataFile = LIST\nb_2.raw\nb_1.raw\n", ["b_1.raw", "b_2.raw"]),
        ("a.mhd", "NDims = 3\nElementDataFile = b_%d.raw 1 2 1\n", ["b_1.raw", "b_2.raw"]),
        ("a.mhd", "NDims = 3\nElementDataFile = größe.raw\n", ["größe.raw"]),
        ("a.mhd", "NDims = 3\nElementDataFile = LIST\nÅ_1.raw\n", ["Å_1.raw"]),
        ("a.mhd", "NDims = 3\nElementDataFile = LOCAL\nElementDataFile = a.raw", []),
        ("a.mhd", "NDims = 3\nElementDataFile = missing.raw\n", []),
        ("a.nrrd", "NRRD0004\ntype: float\ndata file: a.raw\n", ["a.raw"]),
        ("a.nhdr", "NRRD0004\ntype: float\ndatafile: LIST\nb_1.raw\nb_2.raw\n", ["b_1.raw", "b_2.raw"]),
        ("a.nrrd", "NRRD0004\ntype: float\n\ndata file: a.raw\n", []),
        ("a.nhdr", "NRRD0004\ndata file: c [1] %03d.raw 0 1 1\n", ["c [1] 000.raw", "c [1] 001.raw"]),
        ("a.nhdr", "NRRD0004\ndata file: b_%d.raw 2 1 -1 2\n", ["b_1.raw", "b_2.raw"]),
        ("a.nii", "ElementDataFile = a.raw\n", []),
    ],
)
def test_a_header_and_the_files_it_names(tmp_path, name, header, others):
    for other in ("a.raw", "b_1.raw", "b_2.raw", "c [1] 000.raw", "c [1] 001.raw", "größe.raw", "Å_1.raw"):
        (tmp_path / other).write_bytes(b"voxels")
    (tmp_path / name).write_bytes(header.encode())
    assert names(tmp_path / name) == [name, *others]


def test_headers_of_itk(tmp_path):
    image = itk.image_from_array(np.zeros((2, 3, 4), np.float32))
    for name, others in (("a.mhd", ["a.raw"]), ("a.nrrd", []), ("a.nhdr", ["a.raw"]), ("a.mha", [])):
        itk.imwrite(image, str(tmp_path / name))
        assert names(tmp_path / name) == [name, *others]


def test_folder_and_absent_file(tmp_path):
    (tmp_path / "slices").mkdir()
    for number in (2, 1):
        (tmp_path / "slices" / f"{number}.dcm").write_bytes(b"")
    assert names(tmp_path / "slices") == ["1.dcm", "2.dcm"] and files_of(tmp_path / "absent.mhd") == []


def test_the_state_changes_with_the_voxels_behind_a_header(tmp_path):
    raw = tmp_path / "a.raw"
    itk.imwrite(itk.image_from_array(np.zeros((2, 3, 4), np.float32)), str(tmp_path / "a.mhd"))
    before = volume_state(tmp_path / "a.mhd")
    assert volume_state(tmp_path / "a.mhd") == before
    os.utime(raw, ns=(0, raw.stat().st_mtime_ns + 1))
    assert volume_state(tmp_path / "a.mhd") != before
