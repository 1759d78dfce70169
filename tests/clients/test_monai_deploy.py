# SPDX-License-Identifier: Apache-2.0
"""The MONAI Deploy App SDK: its transform filter, and examples/monai_deploy from a DICOM series to a DICOM SEG."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from environments import ROOT, python_with, run

from custom.files import read_json
from custom.phantoms import CARDIAC_LABELS, make_cardiac_subject, make_chest_subject
from custom.phantoms.cohort import subject_seed
from examples.hospital.phantom_ct import phantom_series

pytestmark = pytest.mark.clients
BUNDLES = ROOT / "bundles"
HEART = "gvsl_seg_heart"
# prints number, name and code of each segment; saves the numbers at voxels [x, y, z] of the series
READ = """
import json, sys
import highdicom, numpy
segmentation = highdicom.seg.segread(sys.argv[1])
planes = segmentation.get_pixels_by_source_instance(
    json.load(open(sys.argv[2])), combine_segments=True, assert_missing_frames_are_empty=True
)
numpy.save(sys.argv[3], planes.transpose(2, 1, 0))
for item in segmentation.SegmentSequence:
    print(item.SegmentNumber, item.SegmentLabel, item.SegmentedPropertyTypeCodeSequence[0].CodeValue)
"""


@pytest.fixture(scope="module")
def python() -> Path:
    """Interpreter of an environment with the SDK, which runs without CUDA."""
    return python_with("deploy", "monai-deploy-app-sdk==4.0.0", "highdicom==0.28.2")


def test_the_filter_of_the_sdk_leaves_the_same_volume(python: Path, tmp_path: Path) -> None:
    image, _, affine = make_chest_subject(subject_seed(7, 0), diseased=True)  # with lungs, for gvsl_covid_cls
    nibabel.save(nibabel.Nifti1Image(image, affine), tmp_path / "chest.nii.gz")
    script = Path(__file__).with_name("deploy_filter.py")
    printed = run([python, "-W", "ignore", script, BUNDLES, tmp_path / "chest.nii.gz"], timeout=600)
    assert printed.split()[-5:] == sorted(folder.name for folder in BUNDLES.iterdir())


def test_a_series_becomes_a_segmentation(python: Path, tmp_path: Path) -> None:
    study, bundle = tmp_path / "study", tmp_path / HEART
    study.mkdir()
    slices = phantom_series()
    for number, image in enumerate(slices):
        image.save_as(study / f"{number}.dcm", enforce_file_format=True)
    run([python, "-m", "tools.package_bundles", "--output_dir", tmp_path, "--bundles", HEART], cwd=ROOT, timeout=300)
    with zipfile.ZipFile(next(tmp_path.glob("*.zip"))) as archive:
        archive.extractall(tmp_path)
    export = [python, "-m", "tools.export", "--bundle", bundle, "--to", "torchscript", "--output_dir", tmp_path]
    run(export, cwd=ROOT, timeout=300)
    next(tmp_path.glob("*.ts")).rename(bundle / "models" / "model.ts")
    app = ROOT / "examples" / "monai_deploy" / "app.py"
    run([python, app, "--input", study, "--output", tmp_path / "out", "--model", bundle], cwd=tmp_path, timeout=600)
    (file,) = (tmp_path / "out").glob("*.dcm")
    structures = read_json(ROOT / "examples" / "structures.json")
    (tmp_path / "slices.json").write_text(json.dumps([image.SOPInstanceUID for image in slices]))
    printed = run([python, "-c", READ, file, tmp_path / "slices.json", tmp_path / "found.npy"])
    expected = [f"{number} {name} {structures[name]['code']}" for number, name in enumerate(CARDIAC_LABELS, start=1)]
    assert printed.splitlines()[-7:] == expected
    found = np.load(tmp_path / "found.npy")
    _, reference, affine = make_cardiac_subject(subject_seed(7, 0))
    assert (canonical(found, affine) == alone(python, study, tmp_path)).mean() > 0.9999
    for number, value in enumerate(CARDIAC_LABELS.values(), start=1):
        one, other = found == number, reference == value
        assert 2 * (one & other).sum() / (one.sum() + other.sum()) > 0.75


def canonical(voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Voxels whose axes point to the right, to the front and up."""
    return np.asarray(nibabel.as_closest_canonical(nibabel.Nifti1Image(voxels.astype(np.int32), affine)).dataobj)


def alone(python: Path, study: Path, folder: Path) -> np.ndarray:
    """The numbers of the structures that `monai.bundle run` gives of a series, as `canonical` turns them."""
    config = BUNDLES / HEART / "configs" / "inference.json"
    options = {"bundle_root": config.parents[1], "dataset_dir": study, "output_dir": folder / "alone"}
    listed = [part for name, value in options.items() for part in (f"--{name}", value)]
    run([python, "-m", "monai.bundle", "run", "--config_file", config, *listed], cwd=ROOT, timeout=600)
    label = nibabel.load(next((folder / "alone").glob("*_label.nii.gz")))
    return np.searchsorted([0, *CARDIAC_LABELS.values()], canonical(np.asarray(label.dataobj), label.affine))
