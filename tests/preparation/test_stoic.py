# SPDX-License-Identifier: Apache-2.0
"""STOIC as unpacked, on small MetaImages: lungs, crop, labels, split, bad rows and files."""

from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest
from prepared import listed, unusable_files

from custom.preparation import prepare_stoic

BODY = (slice(4, 40), slice(5, 33), slice(None))


def write_chest(path: Path, lungs: bool = True) -> None:
    """44 x 36 x 24 voxels of 6 x 6 x 8 mm: a body of 40 HU with two boxes of -850 HU."""
    array = np.full((44, 36, 24), -1000, np.int16)
    array[BODY] = 40
    if lungs:
        for x in (slice(8, 19), slice(25, 36)):
            array[x, slice(10, 28), slice(4, 20)] = -850
    array += np.random.default_rng(0).integers(-20, 20, array.shape, np.int16)
    image = itk.image_from_array(np.ascontiguousarray(array.transpose(2, 1, 0)))
    image.SetSpacing([6.0, 6.0, 8.0])
    image.SetOrigin([-130.0, -100.0, -500.0])
    path.parent.mkdir(parents=True, exist_ok=True)
    itk.imwrite(image, str(path), compression=True)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Ten subjects, every second one with COVID-19, subject 4 severe."""
    root = tmp_path / "stoic"
    for number in range(10):
        write_chest(root / "data" / "mha" / f"{number}.mha")
    (root / "metadata").mkdir()
    rows = [f"{number},{number % 2},{int(number == 5)}" for number in range(10)]
    (root / "metadata" / "reference.csv").write_text("\n".join(["PatientID,probCOVID,probSevere", *rows]) + "\n")
    return root


def test_layout_split_and_volumes(source, output):
    report = prepare_stoic(str(source), str(output), margin=6.0, workers=2)
    assert sorted(report.ready) == [str(number) for number in range(10)] and not report.unusable
    content = listed(output)
    assert [len(content[part]) for part in ("training", "validation", "test")] == [5, 2, 3]
    items = [item for part in ("training", "validation", "test") for item in content[part]]
    assert {item["subject"]: item["label"] for item in items} == {str(number): number % 2 for number in range(10)}
    assert [item["subject"] for item in items if item["severe"]] == ["5"]
    assert {item["label"] for item in content["validation"]} == {0, 1}
    image, mask = (nibabel.load(output / items[0][part]) for part in ("image", "mask"))
    assert nibabel.aff2axcodes(image.affine) == ("R", "A", "S") and image.shape == mask.shape
    np.testing.assert_allclose(image.header.get_zooms(), 1.0, atol=1e-5)
    # the lungs fill x 8 to 35, y 10 to 27, z 4 to 19 and have one voxel of margin
    np.testing.assert_allclose(image.shape, [30 * 6, 20 * 6, 18 * 8], atol=8)
    inside = image.get_fdata()[mask.get_fdata() == 1]
    assert np.mean(inside < -700) > 0.85 and image.get_data_dtype() == np.int16
    corner = mask.affine @ [*np.argwhere(mask.get_fdata() == 1).min(axis=0), 1]
    # in LPS millimetres the lungs begin at voxel (8, 10, 4); R and A are the other way round
    np.testing.assert_allclose(corner[2], -500 + 4 * 8, atol=8)


def test_bad_rows_and_files(source, output):
    mha = source / "data" / "mha"
    (mha / "0.mha").unlink()
    (mha / "1.mha").write_bytes((mha / "1.mha").read_bytes()[:300])
    write_chest(mha / "2.mha", lungs=False)
    with (source / "metadata" / "reference.csv").open("a") as file:
        file.write("3,1,0\n11,maybe,0\n")
    report = prepare_stoic(str(source), str(output), workers=0)
    assert sorted(report.ready) == [str(number) for number in range(3, 10)]
    reasons = unusable_files(output)
    assert set(reasons) == {"0.mha", "1.mha", "2.mha", "reference.csv:12", "reference.csv:13"}
    assert "no such file" in reasons["0.mha"] and "cannot be read" in reasons["1.mha"]
    assert "ml of lung" in reasons["2.mha"] and "maybe" in reasons["reference.csv:13"]


def test_missing_reference_and_columns(source, output):
    reference = source / "metadata" / "reference.csv"
    reference.write_text("PatientID,label\n1,1\n")
    with pytest.raises(ValueError, match="probCOVID"):
        prepare_stoic(str(source), str(output))
    reference.unlink()
    with pytest.raises(FileNotFoundError, match=r"reference\.csv"):
        prepare_stoic(str(source), str(output))
