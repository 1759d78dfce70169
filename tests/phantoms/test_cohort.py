# SPDX-License-Identifier: Apache-2.0
"""The cohort on disk: layout, the same bytes whoever makes it, resuming, refusing another cohort, two at once."""

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom.phantoms import CARDIAC_LABELS, CardiacPhantomCohort, PhantomCohort, make_cardiac_subject

COARSE = partial(make_cardiac_subject, spacing=(8.0, 8.0, 8.0))


def small(root, **arguments) -> PhantomCohort:
    arguments = {"subjects": 2, "workers": 0} | arguments
    return PhantomCohort(COARSE, "coarse", "CT", "1", CARDIAC_LABELS, root, **arguments)


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.nii.gz"))}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("cohort")
    assert small(root).make() == str(root)
    return root


def test_layout(made):
    description = json.loads((made / "dataset.json").read_text())
    assert description["name"] == "coarse" and description["modality"] == {"0": "CT"}
    assert "no patients" in description["description"]
    assert (description["generator"], description["seed"], description["subjects"]) == ("1", 0, 2)
    assert description["labels"] == {"0": "background"} | {str(v): k for k, v in CARDIAC_LABELS.items()}
    assert description["numTraining"] == len(description["training"]) == 2
    for item in description["training"]:
        image, label = (nib.load(made / item[part]) for part in ("image", "label"))
        assert image.get_data_dtype() == np.int16 and label.get_data_dtype() == np.uint16
        assert image.shape == label.shape and np.array_equal(image.affine, label.affine)
        assert np.allclose(image.get_sform(), image.get_qform(), atol=1e-4)
        assert image.header.get_xyzt_units()[0] == "mm"
    assert not list(made.rglob(".tmp*"))


def test_file_holds_the_subject(made):
    from custom.phantoms.cohort import subject_seed

    image, label, affine = COARSE(subject_seed(0, 1))
    stored = nib.load(made / "images" / "phantom_001.nii.gz")
    assert np.array_equal(np.asarray(stored.dataobj), image)
    np.testing.assert_allclose(stored.affine, affine, atol=1e-4)
    assert np.array_equal(np.asarray(nib.load(made / "labels" / "phantom_001.nii.gz").dataobj), label)


def test_same_bytes_with_workers_and_more_subjects(made, tmp_path):
    small(tmp_path, subjects=3, workers=2).make()
    other = content(tmp_path)
    assert len(other) == 6 and all(other[name] == data for name, data in content(made).items())


def test_another_seed_gives_other_subjects(made, tmp_path):
    small(tmp_path, seed=1, subjects=1).make()
    assert content(tmp_path)["images/phantom_000.nii.gz"] != content(made)["images/phantom_000.nii.gz"]


def test_constructing_writes_nothing(tmp_path):
    small(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_made_once(made):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*.nii.gz")}
    small(made).make()
    assert before == {path: path.stat().st_mtime_ns for path in made.rglob("*.nii.gz")}


def test_resumes_with_what_is_missing(made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    complete = content(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nii.gz")}
    (tmp_path / "labels" / "phantom_001.nii.gz").unlink()  # as if killed before dataset.json
    (tmp_path / "dataset.json").unlink()
    (tmp_path / "images" / ".tmp.17.1.phantom_000.nii.gz").write_bytes(b"half")
    small(tmp_path).make()
    assert content(tmp_path) == complete and (tmp_path / "dataset.json").exists()
    assert not list(tmp_path.rglob(".tmp*"))
    kept = [path for path in before if "phantom_001" not in path.name]
    assert len(kept) == 2 and all(path.stat().st_mtime_ns == before[path] for path in kept)


@pytest.mark.parametrize("other", [{"seed": 5}, {"subjects": 3}], ids=["seed", "subjects"])
@pytest.mark.parametrize("begun", [False, True], ids=["complete", "begun"])
def test_another_cohort_is_refused_by_name(made, tmp_path, other, begun):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    if begun:
        (tmp_path / "dataset.json").unlink()
    ((key, value),) = other.items()
    with pytest.raises(ValueError, match="another cohort") as caught:
        small(tmp_path, **other).make()
    old = {"seed": 0, "subjects": 2}[key]
    assert f"'{key}': {old}" in str(caught.value) and f"'{key}': {value}" in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def draw(version: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A quick subject that another version draws in another way."""
    image = np.full((2, 3, 4), 10 * version + seed % 7, np.int16)
    return image, image.astype(np.uint16), np.eye(4)


def of_version(version: int, root, **arguments) -> PhantomCohort:
    arguments = {"subjects": 2, "workers": 0} | arguments
    return PhantomCohort(partial(draw, version), "drawn", "CT", str(version), {"heart": 1}, root, **arguments)


@pytest.mark.parametrize("begun", [False, True], ids=["complete", "begun"])
def test_what_another_version_made_is_set_aside_and_made_anew(tmp_path, caplog, begun):
    root = tmp_path / "cohort"
    of_version(1, root).make()
    old = content(root)
    (root / "notes.txt").write_text("of the user")
    if begun:
        (root / "dataset.json").unlink()
    assert of_version(2, root).make() == str(root)
    assert content(tmp_path / "cohort_1") == old and (tmp_path / "cohort_1" / "dataset.json").exists() == (not begun)
    assert json.loads((root / "dataset.json").read_text())["generator"] == "2"
    new = content(root)
    assert new.keys() == old.keys() and all(new[name] != old[name] for name in old)
    assert (root / "notes.txt").exists() and f"from {root} to {tmp_path / 'cohort_1'}" in caplog.text
    of_version(1, root).make()  # and back
    assert content(root) == old and content(tmp_path / "cohort_2") == new
    of_version(2, root).make()
    assert content(root) == new and content(tmp_path / "cohort_1") == content(tmp_path / "cohort_1_") == old


@pytest.mark.parametrize("moves", range(4))
def test_a_change_of_version_that_was_killed_goes_on(tmp_path, monkeypatch, moves):
    root, replace, done = tmp_path / "cohort", os.replace, []
    of_version(1, root).make()

    def dying(*paths):
        if len(done) == moves:
            raise KeyboardInterrupt
        done.append(replace(*paths))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying)
        with pytest.raises(KeyboardInterrupt):
            of_version(2, root).make()
    of_version(2, root).make()
    of_version(2, tmp_path / "expected").make()
    assert content(root) == content(tmp_path / "expected")


def test_another_version_without_manifest_or_of_another_cohort_is_refused(tmp_path):
    of_version(1, tmp_path).make()
    old = content(tmp_path)
    with pytest.raises(ValueError, match="another cohort"):
        of_version(2, tmp_path, seed=5).make()
    (tmp_path / ".phantom_cohort.json").unlink()  # nothing proves that the folder is ours
    with pytest.raises(ValueError, match="another cohort: found .*'generator': '1'.*, expected .*'generator': '2'"):
        of_version(2, tmp_path).make()
    assert content(tmp_path) == old


def test_unreadable_description_is_named(tmp_path):
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(ValueError, match="dataset.json is not valid JSON"):
        small(tmp_path).make()


@pytest.mark.parametrize("wrong", [{"subjects": 0}, {"workers": -1}, {"seed": -1}])
def test_bad_arguments(tmp_path, wrong):
    with pytest.raises(ValueError, match="subjects >= 1"):
        small(tmp_path, **wrong)


def test_two_processes_at_once(made, tmp_path):
    script = (
        "import sys; from functools import partial\n"
        "from custom.phantoms import CARDIAC_LABELS, PhantomCohort, make_cardiac_subject\n"
        "coarse = partial(make_cardiac_subject, spacing=(8.0, 8.0, 8.0))\n"
        "PhantomCohort(coarse, 'coarse', 'CT', '1', CARDIAC_LABELS, sys.argv[1], subjects=2, workers=0).make()\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stderr=subprocess.PIPE) for _ in "ab"]
    for process in running:
        assert process.wait(60) == 0, process.stderr.read().decode()
        process.stderr.close()
    assert content(tmp_path) == content(made)


def test_cardiac_cohort_names_itself(tmp_path):
    cohort = CardiacPhantomCohort(str(tmp_path))
    assert (cohort.subjects, cohort.seed, cohort.workers) == (24, 0, 2)
    assert cohort.make_subject is make_cardiac_subject
    assert cohort.description()["numTraining"] == 24 and cohort.description()["generator"] == cohort.VERSION


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failing_subject_stops_the_run_and_leaves_no_description(tmp_path, workers):
    broken = partial(make_cardiac_subject, spacing=(-1.0, 8.0, 8.0))
    with pytest.raises(ValueError, match="spacing must be three positive numbers"):
        PhantomCohort(broken, "broken", "CT", "1", CARDIAC_LABELS, tmp_path, subjects=3, workers=workers).make()
    assert not (tmp_path / "dataset.json").exists() and not content(tmp_path)
