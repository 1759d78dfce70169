# SPDX-License-Identifier: Apache-2.0
"""The volumes of a task: a second source without labels, its grid and its place in pre-training."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from benchmarks.transfer.measure import unlabelled_data
from benchmarks.transfer.task_file import Recipe, TaskFile, read_task_file
from benchmarks.transfer.volumes import Cohort, read_cohort

SAME_PERSON = [{"1004", "1024"}, {"1019", "1039"}]  # repeat scans


@pytest.fixture
def task(tmp_path: Path) -> TaskFile:
    """Two volumes at 2x2x3 mm that rise by 1 a millimetre from left to right, without labels."""
    (tmp_path / "data" / "other").mkdir(parents=True)
    image = np.broadcast_to(2.0 * np.arange(20)[:, None, None], (20, 15, 10)).astype(np.float32)
    for subject in ("a", "b"):
        file = tmp_path / "data" / "other" / f"{subject}_T1w.nii.gz"
        nibabel.save(nibabel.Nifti1Image(image, np.diag([2.0, 2.0, 3.0, 1.0])), file)
    unlabelled = {"source": "other", "files": "{}_T1w.nii.gz", "subjects": ["a", "b"], "page": "https://example.org"}
    volumes = {"source": "own", "split": {"pretraining": []}, "labels": {"ball": 1}, "unlabelled": unlabelled}
    return TaskFile("tiny", Recipe(), bundle="gvsl_seg_brain", reduce=5, **volumes)


def test_copies_have_the_working_resolution_and_position(task: TaskFile, tmp_path: Path) -> None:
    items = read_cohort(task, tmp_path / "data", tmp_path / "work").pretraining
    assert [item["subject"] for item in items] == ["a", "b"] and "label" not in items[0]
    copy = nibabel.load(items[0]["image"])
    assert np.allclose(copy.header.get_zooms(), 5)
    values = np.asarray(copy.dataobj)
    for index in range(1, 6):  # the value is the position of the voxel in mm, counted from the left
        assert values[index, 2, 2] == pytest.approx((copy.affine @ [index, 2, 2, 1])[0], abs=1e-3)


def test_missing_volumes_are_named(task: TaskFile, tmp_path: Path) -> None:
    (tmp_path / "data" / "other" / "b_T1w.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"b_T1w.nii.gz does not exist; get it from https://example.org"):
        read_cohort(task, tmp_path / "data", tmp_path / "work")


def test_pre_training_sees_both_kinds_and_training_the_labelled_ones() -> None:
    labelled = {"image": "c.nii.gz", "label": "c_label.nii.gz", "subject": "c"}
    held_out = [{**labelled, "subject": name} for name in ("d", "e")]
    pretraining = [labelled, {"image": "a", "subject": "a"}]
    cohort = Cohort("gvsl_seg_brain", 1, {"ball": 1}, pretraining, held_out)
    training = unlabelled_data(cohort)["data"]["training"]
    assert training == [{"image": "c.nii.gz", "subject": "c"}, {"image": "a", "subject": "a"}]
    assert all(cohort.labelled_items(seed) == [labelled] for seed in range(5))


def test_the_brains_are_split_by_person() -> None:
    """Sixteen scans, no two of one person."""
    task = read_task_file("brains")
    subjects = [subject for part in task.split.values() for subject in part]
    assert len(subjects) == len(set(subjects)) == 16
    assert all(len(person & set(subjects)) == 1 for person in SAME_PERSON)
    assert len(set(task.unlabelled["subjects"])) == 48
