# SPDX-License-Identifier: Apache-2.0
"""The volumes of a task: a second source without labels, absent structures, numbers of labelled volumes, splits."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.metrics import DiceMetric

from benchmarks.transfer.measure import labelled_by_atlases, unlabelled_data
from benchmarks.transfer.probe import UNKNOWN, probe_dice
from benchmarks.transfer.task_file import Recipe, TaskFile, read_task_file
from benchmarks.transfer.volumes import Cohort, copy_volumes, item_of, read_cohort
from custom.volumes import VolumeError

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


def test_copies_are_made_once_and_missing_volumes_named(task: TaskFile, tmp_path: Path) -> None:
    first = read_cohort(task, tmp_path / "data", tmp_path / "work")
    (tmp_path / "data" / "other" / "b_T1w.nii.gz").unlink()
    assert read_cohort(task, tmp_path / "data", tmp_path / "work") == first
    with pytest.raises(FileNotFoundError, match=r"b_T1w.nii.gz does not exist; get it from https://example.org"):
        read_cohort(task, tmp_path / "data", tmp_path / "elsewhere")


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


def permuted(subjects: list[str]) -> list[str]:
    return [subjects[index] for index in np.random.default_rng(0).permutation(len(subjects))]


def test_heads_and_necks_are_split_as_the_task_file_says() -> None:
    task = read_task_file("head_neck")
    subjects = {subject for part in task.split.values() for subject in part}
    absent = {subject for name in task.labels if name != "mandible" for subject in task.absent[name]}
    order = permuted(sorted(subjects - absent))
    assert len(subjects) == 170 and list(map(len, task.split.values())) == [100, 12, 58]
    assert (task.split["validation"], task.split["test"]) == (sorted(order[:12]), sorted(order[12:70]))
    assert all(set(named) <= subjects for named in task.absent.values())
    for part in ("validation", "test"):
        assert len(set(task.split[part]) - set(task.absent["mandible"])) > len(task.split[part]) / 2


def test_the_hippocampus_is_split_by_scan() -> None:
    def scan(subject: str) -> int:
        return (int(subject.removeprefix("hippocampus_")) + 1) // 2

    task = read_task_file("hippocampus_scans")
    unlabelled = set(map(scan, task.unlabelled["subjects"]))
    parts = [set(map(scan, part)) for part in task.split.values()]
    parts[0] |= unlabelled
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    subjects = sorted(subject for part in task.split.values() for subject in part)
    order = permuted([subject for subject in subjects if scan(subject) not in unlabelled])
    assert (task.split["validation"], task.split["test"]) == (sorted(order[:10]), sorted(order[10:40]))


def test_labelled_volumes_of_a_smaller_number_are_some_of_a_larger_one() -> None:
    """And the first one has all structures."""
    items = [{"subject": str(k), "label": "", "absent": ["jaw"] if k % 3 else []} for k in range(9)]
    for seed in range(5):
        drawn = [Cohort(labelled=n, pretraining=items).labelled_items(seed) for n in (1, 2, 4)]
        names = [{item["subject"] for item in chosen} for chosen in drawn]
        assert names[0] < names[1] < names[2] and list(map(len, names)) == [1, 2, 4]
        assert not drawn[0][0]["absent"]


def test_absent_structures_of_an_item(tmp_path: Path) -> None:
    absent = {"cord": ["b", "c"], "jaw": ["c"]}
    task = TaskFile("t", Recipe(), labels={"cord": 2, "jaw": 5}, absent=absent)
    items = [item_of(task, subject, tmp_path) for subject in "abc"]
    assert [item["absent"] for item in items[:2]] == [[], ["cord"]]
    assert "label" not in items[2]  # nothing was contoured
    held_out = [item | {"subject": f"{k} {item['subject']}"} for k in range(2) for item in items[:2]]
    pairs = unlabelled_data(Cohort("b", 1, task.labels, [], held_out))["data"]["validation"]
    assert [(pair["moving_subject"], pair["fixed_subject"]) for pair in pairs] == [("0 a", "1 a"), ("1 a", "0 a")]


def test_bodies_are_cut_out_and_implants_clipped(tmp_path: Path) -> None:
    image, label = np.zeros((8, 8, 8), np.int16), np.zeros((8, 8, 8), np.int16)
    image[2:6, 1:7, 3:5] = 1024
    image[3, 3, 3], label[2:6, 1, 3] = 32743, 1
    for folder, array in (("images", image), ("labels", label)):
        (tmp_path / "own" / folder).mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "own" / folder / "a.nii.gz")
    volumes = {"source": "own", "split": {"test": ["a"]}, "labels": {"cord": 1}}
    task = TaskFile("t", Recipe(), **volumes, body_above=300, clip=[0, 4095], shift=-1024)
    folder = copy_volumes(task, tmp_path, tmp_path / "work")
    copies = [nibabel.load(folder / name / "a.nii.gz") for name in ("images", "labels")]
    values, classes = (np.asarray(copy.dataobj) for copy in copies)
    assert values.shape == classes.shape == (4, 6, 2) and copies[0].affine[:3, 3].tolist() == [2, 1, 3]
    assert values.max() == 4095 - 1024 and np.count_nonzero(values == 0) == 47 and classes[:, 0, 0].tolist() == [1] * 4


def test_an_absent_structure_that_is_predicted_is_no_error() -> None:
    """Dice of a structure that the reference lacks does not exist; that of the others is as before."""
    label = torch.zeros(1, 3, 4, 4, 4)
    label[:, 1, :2] = 1
    label[:, 0] = 1 - label[:, 1]
    predicted = label.clone()
    predicted[:, 2, 3], predicted[:, 0, 3] = 1, 0
    dice = DiceMetric(include_background=False)
    assert dice(predicted, label).nan_to_num(-1).tolist() == [[1, -1]]
    assert dice.aggregate().item() == 1


def test_the_probe_does_not_train_on_unknown_voxels() -> None:
    generator, classes = torch.Generator().manual_seed(0), torch.arange(3).repeat_interleave(72).reshape(1, 6, 6, 6)
    volumes = [(classes + 1 + 0.1 * torch.rand(1, 6, 6, 6, generator=generator), classes) for _ in range(3)]
    unknown = classes.where(classes == 1, UNKNOWN)  # class 2 was not annotated
    training, tests = [volumes[0], (volumes[1][0], unknown)], [volumes[2], (volumes[1][0], unknown)]
    dice = probe_dice(torch.nn.Identity(), training, [tests], classes=3)[0]
    assert dice[0].min() > 0.95 and dice[1, 0] > 0.95 and np.isnan(dice[1, 1])


def labelled(folder: Path, values: dict[str, int], label_affine: np.ndarray) -> TaskFile:
    """A task of one volume with two structures of 4x8x8 voxels each; the label map has an affine of its own."""
    image, label = np.arange(512, dtype=np.float32).reshape(8, 8, 8), np.zeros((8, 8, 8), np.int32)
    label[:4], label[4:] = values.values()
    for name, array, affine in (("images", image, np.eye(4)), ("labels", label, label_affine)):
        (folder / "own" / name).mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(array, affine), folder / "own" / name / "a.nii.gz")
    return TaskFile("t", Recipe(), source="own", split={"test": ["a"]}, labels=values)


def test_label_values_above_the_range_of_int16_are_kept(tmp_path: Path) -> None:
    folder = copy_volumes(labelled(tmp_path, {"a": 7, "b": 40000}, np.eye(4)), tmp_path, tmp_path / "work")
    assert np.unique(nibabel.load(folder / "labels" / "a.nii.gz").dataobj).tolist() == [7, 40000]


def test_image_and_label_map_have_one_grid(tmp_path: Path) -> None:
    """The same one if they differ by less than half a voxel; more is refused."""
    shifted = np.eye(4)
    shifted[0, 3] = 0.3
    task = labelled(tmp_path / "near", {"a": 1, "b": 2}, shifted)
    folder = copy_volumes(task, tmp_path / "near", tmp_path / "work")
    affines = [nibabel.load(folder / name / "a.nii.gz").affine for name in ("images", "labels")]
    assert np.array_equal(*affines)
    shifted[0, 3] = 3
    with pytest.raises(
        VolumeError, match=r"labels/a.nii.gz: label map lies up to 3.00 mm off the voxels of .*images/a"
    ):
        copy_volumes(labelled(tmp_path / "far", {"a": 1, "b": 2}, shifted), tmp_path / "far", tmp_path / "other")


def test_a_list_of_atlases_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    items = [{"image": "c.nii.gz", "label": "c_label.nii.gz", "subject": "c"}]
    with pytest.raises(OSError, match=r"atlases\.csv: the atlases cannot be written"):
        labelled_by_atlases([], items, tmp_path, tmp_path / "file" / "propagated", 1)
