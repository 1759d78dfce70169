# SPDX-License-Identifier: Apache-2.0
"""labelled_data: lists that are used as they are, parts that are cut, and every volume without a label by name."""

from __future__ import annotations

import json
import logging

import pytest

from custom.data import find_volumes, inference_data, labelled_data, pretraining_data

PARTS = ("training", "validation", "test")


def write(root, content=None, images=(), labels=()):
    for folder, names in (("images", images), ("labels", labels)):
        (root / folder).mkdir(exist_ok=True)
        for name in names:
            (root / folder / f"{name}.nii.gz").write_bytes(b"")
    if content is not None:
        (root / "dataset.json").write_text(json.dumps(content))


def entries(names, **more):
    return [{"image": f"./images/{name}.nii.gz", "label": f"./labels/{name}.nii.gz"} | more for name in names]


def subjects(data):
    return {part: [item["subject"].split("/")[-1] for item in data[part]] for part in PARTS}


@pytest.fixture
def cohort(tmp_path):
    """Ten subjects a0 to a9 as a Decathlon folder."""
    names = [f"a{number}" for number in range(10)]
    write(tmp_path, {"training": entries(names)}, names, names)
    return tmp_path


def test_parts_are_cut_by_subject_from_the_seed(cohort):
    data = labelled_data(str(cohort), validation=0.2, test=3, seed=0)
    found = subjects(data)
    assert [len(found[part]) for part in PARTS] == [5, 2, 3]
    assert sorted(sum(found.values(), [])) == [f"a{number}" for number in range(10)]
    assert data == labelled_data(str(cohort), validation=2, test=0.3, seed=0)
    assert any(subjects(labelled_data(str(cohort), test=3, seed=seed)) != found for seed in (1, 2))
    item = data["training"][0]
    assert item == {
        "image": str(cohort / "images" / f"{found['training'][0]}.nii.gz"),
        "label": str(cohort / "labels" / f"{found['training'][0]}.nii.gz"),
        "subject": f"images/{found['training'][0]}",
    }


def test_volumes_of_one_subject_stay_together(tmp_path):
    names = [f"{subject}_{visit}" for subject in range(6) for visit in range(2)]
    content = {"training": [entry | {"subject": entry["image"][9]} for entry in entries(names)]}
    write(tmp_path, content, names, names)
    for seed in range(5):
        found = subjects(labelled_data(str(tmp_path), validation=1, test=2, seed=seed))
        assert [len(found[part]) for part in PARTS] == [6, 2, 4]
        assert all(len(found[part]) == 2 * len(set(found[part])) for part in PARTS)


def test_lists_with_labels_are_used_as_they_are(tmp_path):
    names = list("abcdefgh")
    content = {"training": entries("abcd"), "validation": entries("ef"), "test": entries("gh")}
    write(tmp_path, content, names, names)
    expected = {"training": list("abcd"), "validation": list("ef"), "test": list("gh")}
    for seed in range(3):
        assert subjects(labelled_data(str(tmp_path), seed=seed)) == expected
    del content["validation"]
    write(tmp_path, content)
    found = subjects(labelled_data(str(tmp_path), validation=2))
    assert found["test"] == list("gh") and len(found["validation"]) == 2 and len(found["training"]) == 2


def test_decathlons_test_without_labels_stays_the_test(cohort, caplog):
    """Its subjects are no training volumes, and no other test is cut from those."""
    names = [f"a{number}" for number in range(10)]
    write(cohort, {"training": entries(names), "test": ["./images/unlabelled.nii.gz"]}, ["unlabelled"])
    with caplog.at_level(logging.INFO):
        found = subjects(labelled_data(str(cohort), validation=2, test=3))
    assert [len(found[part]) for part in PARTS] == [8, 2, 0]
    assert "unlabelled" not in str(found) and "the 1 volumes of test have no label" in caplog.text
    assert "there is no test part to evaluate" in caplog.text


def test_a_validation_without_labels_and_an_empty_test_are_cut(cohort):
    names = [f"a{number}" for number in range(10)]
    write(cohort, {"training": entries(names), "validation": ["./images/x.nii.gz"], "test": []}, ["x"])
    found = subjects(labelled_data(str(cohort), validation=2, test=3))
    assert [len(found[part]) for part in PARTS] == [5, 2, 3]


@pytest.mark.parametrize("with_labels", [True, False])
def test_folders_of_a_test_are_the_test(with_labels, tmp_path):
    for folder, names in {"imagesTr": "abcd", "labelsTr": "abcd", "imagesTs": "xy", "labelsTs": "xy"}.items():
        if with_labels or folder != "labelsTs":
            (tmp_path / folder).mkdir()
            for name in names:
                (tmp_path / folder / f"{name}.nii.gz").write_bytes(b"")
    found = subjects(labelled_data(str(tmp_path), validation=1, test=2))
    assert [len(found[part]) for part in PARTS] == [3, 1, 2 if with_labels else 0]
    assert sorted(found["training"] + found["validation"]) == list("abcd")
    assert all("Ts" not in item["image"] for item in find_volumes(tmp_path))


def test_the_dataset_json_of_nnunet_describes_folders(tmp_path):
    """No lists, but images in imagesTr with the number of the channel, and their number."""
    content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}
    for folder, names in {"imagesTr": ("a_0000", "b_0000", "c_0000"), "labelsTr": "abc"}.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / f"{name}.nii.gz").write_bytes(b"")
    write(tmp_path, content | {"numTraining": 3})
    found = labelled_data(str(tmp_path), validation=1, test=1)
    assert sorted(item["subject"] for part in PARTS for item in found[part]) == list("abc")
    assert len(inference_data(str(tmp_path))) == 3
    write(tmp_path, content | {"numTraining": 4})
    with pytest.raises(ValueError, match="dataset.json: numTraining is 4, found 3 cases with label maps in imagesTr"):
        labelled_data(str(tmp_path), validation=1, test=1)


def test_folders_without_dataset_json(tmp_path):
    write(tmp_path, None, "abcde", "abcde")
    found = subjects(labelled_data(str(tmp_path), validation=1, test=1))
    assert sorted(sum(found.values(), [])) == list("abcde") and len(found["training"]) == 3


def test_no_test_part_is_allowed(cohort):
    assert [len(labelled_data(str(cohort), validation=1, test=0)[part]) for part in PARTS] == [9, 1, 0]


def test_classes_are_labels_and_other_files_are_found(tmp_path):
    images = [f"{number}" for number in range(4)]
    content = {
        "training": [
            {"image": f"images/{n}.nii.gz", "label": int(n) % 2, "lungs": f"labels/{n}.nii.gz"} for n in images
        ]
    }
    write(tmp_path, content, images, images)
    data = labelled_data(str(tmp_path), validation=1, test=1, other_files=("lungs",))
    for item in sum(data.values(), []):
        number = item["subject"].split("/")[-1]
        assert item["label"] == int(number) % 2
        assert item["lungs"] == str(tmp_path / "labels" / f"{number}.nii.gz")
    assert all("lungs" not in item for item in labelled_data(str(tmp_path))["training"])
    (tmp_path / "labels" / "2.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"1 of 4 .*\n  training\[2\].lungs: 'labels/2.nii.gz'"):
        labelled_data(str(tmp_path), other_files=("lungs",))


def test_classes_are_no_label_maps_for_pre_training(tmp_path):
    images = [f"{number}" for number in range(6)]
    write(tmp_path, {"training": [{"image": f"images/{n}.nii.gz", "label": 1} for n in images]}, images)
    assert all("label" not in item for item in find_volumes(tmp_path))
    assert all("moving_label" not in pair for pair in pretraining_data(str(tmp_path))["validation"])


def test_every_volume_without_a_label_is_named(tmp_path):
    write(tmp_path, None, "abcde", "ace")
    with pytest.raises(ValueError, match=r"2 of 5 volumes have no label.*\n.*b.nii.gz\n.*d.nii.gz"):
        labelled_data(str(tmp_path))
    content = {"training": entries("ab") + [{"image": "images/c.nii.gz"}], "test": entries("d") + ["images/e.nii.gz"]}
    write(tmp_path, content, (), "bd")
    with pytest.raises(ValueError, match=r"2 of 5 .*\n  training: .*c.nii.gz\n  test: .*e.nii.gz"):
        labelled_data(str(tmp_path))


def test_every_label_file_that_does_not_exist_is_named(cohort):
    for number in (2, 7):
        (cohort / "labels" / f"a{number}.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"2 of 10 .*\n  training\[2\].label.*a2.*\n  training\[7\].label.*a7"):
        labelled_data(str(cohort))


def test_a_subject_in_two_lists_is_refused(tmp_path):
    write(tmp_path, {"training": entries("abc"), "test": entries("bd")}, "abcd", "abcd")
    with pytest.raises(ValueError, match=r"1 subjects .*\n  images/b in training and test"):
        labelled_data(str(tmp_path))


def test_a_part_without_cases_of_a_required_class_is_refused(tmp_path):
    items = [{"image": f"./images/{name}.nii.gz", "label": label} for name, label in (("a", 0), ("b", 7), ("c", 0))]
    write(tmp_path, {"training": items[:2], "validation": items[2:]}, "abc")
    classes = {"healthy": 0, "ill": 7}
    assert labelled_data(str(tmp_path), test=0, required_classes={"training": classes})
    with pytest.raises(ValueError, match=r"validation: 1 cases, \{'healthy': 1, 'ill': 0\}.* found none of ill"):
        labelled_data(str(tmp_path), test=0, required_classes={"validation": classes})


def test_an_evaluation_needs_the_test_alone(tmp_path):
    write(tmp_path, {"test": entries("ab")}, "ab", "ab")
    data = labelled_data(str(tmp_path), test_alone=True)
    assert [item["image"][-8:] for item in data["test"]] == ["a.nii.gz", "b.nii.gz"]
    assert data["training"] == data["validation"] == []
    with pytest.raises(ValueError, match="holds 0 volumes for training"):
        labelled_data(str(tmp_path))


def test_an_evaluation_without_a_list_of_the_test_draws_the_one_of_the_training(cohort):
    assert labelled_data(str(cohort), test_alone=True)["test"] == labelled_data(str(cohort))["test"]


@pytest.mark.parametrize("seed", range(5))
def test_rare_classes_are_in_every_part(tmp_path, seed):
    """Three ill of twenty: by chance alone a part would often have none, and no AUC."""
    names = [f"{number:02d}" for number in range(20)]
    items = [{"image": f"./images/{name}.nii.gz", "label": int(name in ("03", "04", "17"))} for name in names]
    write(tmp_path, {"training": items}, names)
    data = labelled_data(str(tmp_path), seed=seed)
    assert {part: len(data[part]) for part in PARTS} == {"training": 12, "validation": 4, "test": 4}
    assert [sum(item["label"] for item in data[part]) for part in PARTS] == [1, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"validation": 5, "test": 5}, r"'test': 5, 'validation': 5} of 10 subjects: none is left"),
        ({"validation": 1.0}, "validation is 1.0"),
        ({"test": -1}, "test is -1"),
    ],
)
def test_wrong_sizes(cohort, arguments, found):
    with pytest.raises(ValueError, match=found):
        labelled_data(str(cohort), **arguments)


def test_a_data_set_that_is_too_small_to_split_is_named(tmp_path):
    write(tmp_path, None, "a", "a")
    with pytest.raises(ValueError, match=f"{tmp_path}: {{'test': 1, 'validation': 1}} of 1 subjects: none is left"):
        labelled_data(str(tmp_path))


def test_the_cohort_is_made_for_its_own_folder(cohort):
    class Cohort:
        root, made = str(cohort), 0

        def make(self):
            self.made += 1

    phantoms = Cohort()
    labelled_data(str(cohort) + "/", phantoms)
    assert phantoms.made == 1
