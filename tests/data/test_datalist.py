# SPDX-License-Identifier: Apache-2.0
"""find_volumes, split_volumes, fixed_pairs: what is found, in which order, and the errors that name it."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from custom.data import find_volumes, fixed_pairs, group_by_subject, split_volumes

SHARED = Path(__file__).parents[3] / "shared" / "data"


def touch(root, *names, content=b""):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def make_items(subjects, files_per_subject=1, labels=True):
    items = []
    for subject in range(subjects):
        for file in range(files_per_subject):
            item = {"image": f"{subject}_{file}.nii", "subject": f"s{subject}"}
            items.append(item | ({"label": f"{subject}_{file}_label.nii"} if labels else {}))
    return items


# ------------------------------------------------------------------------------------------------------ find_volumes


def test_every_format_is_found_in_natural_order(tmp_path):
    touch(tmp_path, "p10.nii.gz", "p2.NII", "site/p1.nrrd", "b.mha", "a.mhd", "a.raw", "notes.txt", "p3.img")
    touch(tmp_path, "._p2.nii", ".hidden.nii.gz", ".cache/p.nii.gz", "__MACOSX/._p9.nii.gz", "labels_only.json")
    touch(tmp_path, "dicom/patient1/IM1", "dicom/patient1/IM2", content=bytes(128) + b"DICM")
    touch(tmp_path, "dicom/patient2/1.2.840.113", content=bytes(128) + b"DICM")
    touch(tmp_path, "dicom/patient3/x.dcm", "dicom/DICOMDIR", content=bytes(128) + b"DICM")
    items = find_volumes(tmp_path)
    assert [item["subject"] for item in items] == [
        "a",
        "b",
        "dicom/patient1",
        "dicom/patient2",
        "dicom/patient3",
        "p2",
        "p10",
        "site/p1",
    ]
    assert items[-1] == {"image": str(tmp_path / "site/p1.nrrd"), "subject": "site/p1"}
    assert all("label" not in item for item in items)
    assert find_volumes(str(tmp_path)) == items


def test_dataset_dir_that_is_itself_one_series(tmp_path):
    touch(tmp_path / "series", "a.dcm", "b.dcm")
    assert find_volumes(tmp_path / "series", min_subjects=1) == [
        {"image": str(tmp_path / "series"), "subject": "series"}
    ]


def test_labels_beside_images_are_paired_by_name(tmp_path, caplog):
    touch(tmp_path, "images/a1.nii.gz", "images/a2.nrrd", "images/a3.nii.gz", "labels/a1.nii.gz", "labels/a2.nii.gz")
    touch(tmp_path, "labels/other.nii.gz")
    with caplog.at_level(logging.INFO):
        items = find_volumes(tmp_path)
    assert items == [
        {
            "image": str(tmp_path / "images/a1.nii.gz"),
            "label": str(tmp_path / "labels/a1.nii.gz"),
            "subject": "a1",
        },
        {"image": str(tmp_path / "images/a2.nrrd"), "label": str(tmp_path / "labels/a2.nii.gz"), "subject": "a2"},
        {"image": str(tmp_path / "images/a3.nii.gz"), "subject": "a3"},
    ]
    assert "3 volumes of 3 subjects (by path), 2 with labels" in caplog.text
    images_only = find_volumes(tmp_path / "images")
    assert [item["subject"] for item in images_only] == ["a1", "a2", "a3"]
    assert all("label" not in item for item in images_only)


def test_labels_beside_images_deeper_down(tmp_path):
    for site in ("north", "south"):
        touch(tmp_path, f"{site}/images/1/x.nii.gz", f"{site}/labels/1/x.nii.gz", f"{site}/labels/2/x.nii.gz")
    touch(tmp_path, "labels/y.nii.gz")  # no images beside it: an ordinary folder
    assert [(item["subject"], "label" in item) for item in find_volumes(tmp_path)] == [
        ("labels/y", False),
        ("north/1/x", True),
        ("south/1/x", True),
    ]


def test_links_are_followed_once(tmp_path):
    touch(tmp_path, "real/a.nii", "real/b.nii")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data", target_is_directory=True)
    assert [item["subject"] for item in find_volumes(tmp_path / "data")] == ["link/a", "link/b"]


def test_missing_folder_file_and_too_few(tmp_path):
    with pytest.raises(FileNotFoundError, match="dataset_dir .*nowhere' does not exist, expected a folder of volumes"):
        find_volumes(tmp_path / "nowhere")
    touch(tmp_path, "one/a.nii.gz", "one/a.raw", "file.nii")
    with pytest.raises(NotADirectoryError, match="file.nii' is a file"):
        find_volumes(tmp_path / "file.nii")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty' holds 0 volumes of 0 subjects, expected at least 2 .*\.mhd.*DICOM"):
        find_volumes(tmp_path / "empty")
    with pytest.raises(ValueError, match="one' holds 1 volumes of 1 subjects, expected at least 2 subjects"):
        find_volumes(tmp_path / "one")
    assert len(find_volumes(tmp_path / "one", min_subjects=1)) == 1


def write_dataset_json(root, content):
    (root / "dataset.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return root


def test_dataset_json(tmp_path):
    touch(tmp_path, "imagesTr/a.nii.gz", "imagesTr/b.nii.gz", "imagesTr/b2.nii.gz", "labelsTr/a.nii.gz", "other/c.nii")
    training = [
        {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"},
        {"image": "imagesTr/b.nii.gz", "subject": "b"},
        {"image": "imagesTr/b2.nii.gz", "subject": "b"},
        "other/c.nii",
    ]
    assert find_volumes(write_dataset_json(tmp_path, {"name": "x", "training": training})) == [
        {
            "image": str(tmp_path / "imagesTr/a.nii.gz"),
            "label": str(tmp_path / "labelsTr/a.nii.gz"),
            "subject": "imagesTr/a",
        },
        {"image": str(tmp_path / "imagesTr/b.nii.gz"), "subject": "b"},
        {"image": str(tmp_path / "imagesTr/b2.nii.gz"), "subject": "b"},
        {"image": str(tmp_path / "other/c.nii"), "subject": "other/c"},
    ]


def test_dataset_json_counts_subjects_not_files(tmp_path):
    touch(tmp_path, "a.nii", "b.nii")
    training = [{"image": "a.nii", "subject": 7}, {"image": "b.nii", "subject": 7}]
    with pytest.raises(ValueError, match="dataset.json holds 2 volumes of 1 subjects"):
        find_volumes(write_dataset_json(tmp_path, {"training": training}))


@pytest.mark.parametrize(
    "content, finding",
    [
        ('{"training": [', "dataset.json is not valid JSON"),
        ({"test": []}, 'expected {"training"'),
        ([1, 2], 'dataset.json holds a JSON list, expected an object: {"training"'),
        (
            {"training": [{"label": "a.nii"}, 3]},
            r"2 of 2 entries .*\n  training\[0\]: .*\n  training\[1\]: 3, exp",
        ),
        (
            {"training": ["a.nii", "gone.nii"]},
            r"1 of 2 entries .*\n  training\[1\].image: 'gone.nii', expected an",
        ),
        ({"training": ["a.nii", {"image": "a.nii", "label": "gone"}]}, r"training\[1\].label: 'gone'"),
        (
            {"training": ["a.nii", {"image": ["a.nii", "a.nii"]}]},
            r"training\[1\].image: 2 files, .*, expected 1, one a channel",
        ),
    ],
)
def test_dataset_json_errors(tmp_path, content, finding):
    touch(tmp_path, "a.nii")
    with pytest.raises(ValueError, match=finding):
        find_volumes(write_dataset_json(tmp_path, content))


@pytest.mark.parametrize(
    "name, count, labelled",
    [
        ("chest_ct", 9, 0),
        ("hippocampus", 130, 130),
        ("hippocampus/images", 130, 0),
        ("brain_manual", 18, 18),
    ],
)
def test_real_folders(name, count, labelled):
    if not (SHARED / name).is_dir():
        pytest.skip(f"../shared/data/{name} is absent")
    items = find_volumes(SHARED / name)
    assert (len(items), sum("label" in item for item in items)) == (count, labelled)
    assert len({item["subject"] for item in items}) == count
    for item in items:
        assert Path(item["image"]).is_file()
        if labelled:
            assert Path(item["label"]).name == Path(item["image"]).name and "/labels/" in item["label"]


# ---------------------------------------------------------------------------------------------------- split_volumes


def subjects_of(items):
    return set(group_by_subject(items))


@pytest.mark.parametrize("validation, expected", [(3, 3), (0.25, 3), (0.01, 2), (1, 2), (0.99, 10)])
def test_split_is_by_subject_and_leaves_two_on_each_side(validation, expected):
    items = make_items(12, files_per_subject=2)
    parts = split_volumes(items, validation, seed=0)
    assert len(subjects_of(parts["validation"])) == expected
    assert subjects_of(parts["training"]).isdisjoint(subjects_of(parts["validation"]))
    assert sorted(item["image"] for part in parts.values() for item in part) == sorted(i["image"] for i in items)
    assert all(part == [item for item in items if item in part] for part in parts.values())


def test_split_follows_seed_and_names_not_order():
    items = make_items(12)
    first = subjects_of(split_volumes(items, 4, seed=0)["validation"])
    assert first == subjects_of(split_volumes(items[::-1], 4, seed=0)["validation"])
    assert len({frozenset(subjects_of(split_volumes(items, 4, seed=s)["validation"])) for s in range(10)}) > 5


def test_changed_count_is_logged(caplog):
    split_volumes(make_items(12), 3, seed=0)
    assert not caplog.records
    split_volumes(make_items(5), 0.9, seed=0)
    assert "validation uses 3 subjects instead of 4" in caplog.text


@pytest.mark.parametrize("subjects", [2, 3])
def test_two_or_three_subjects_validate_on_training_volumes_with_a_warning(subjects, caplog):
    items = make_items(subjects)
    assert split_volumes(items, 0.2, seed=0) == {"training": items, "validation": items}
    assert f"{subjects} subjects cannot be split" in caplog.text and "not of held-out" in caplog.text


@pytest.mark.parametrize(
    "subjects, validation, finding",
    [
        (1, 0.5, "1 volumes of 1 subjects to split, expected at least two"),
        (9, 8, "validation takes 8 of 9 subjects, two must remain"),
        (9, 0, "validation is 0, expected"),
        (9, 1.5, "validation is 1.5, expected"),
    ],
)
def test_split_errors(subjects, validation, finding):
    with pytest.raises(ValueError, match=finding):
        split_volumes(make_items(subjects), validation, seed=0)


# ------------------------------------------------------------------------------------------------------ fixed_pairs


def test_fixed_pairs_are_distinct_pairs_of_different_subjects():
    items = make_items(4, files_per_subject=2)
    pairs = fixed_pairs(items, 30, seed=5)
    assert len({(pair["moving"], pair["fixed"]) for pair in pairs}) == 30
    subject = {item["image"]: item["subject"] for item in items}
    for pair in pairs:
        assert pair["moving_subject"] == subject[pair["moving"]] != subject[pair["fixed"]] == pair["fixed_subject"]
        assert pair["moving_label"] == pair["moving"].replace(".nii", "_label.nii")
        assert pair["fixed_label"] == pair["fixed"].replace(".nii", "_label.nii")
    assert pairs == fixed_pairs(items, 30, seed=5) != fixed_pairs(items, 30, seed=6)


def test_fixed_pairs_have_labels_only_where_both_are_known():
    items = make_items(3)
    del items[0]["label"]
    for pair in fixed_pairs(items, 6, seed=0):
        both = "s0" not in (pair["moving_subject"], pair["fixed_subject"])
        assert ("moving_label" in pair, "fixed_label" in pair) == (both, both)


def test_fixed_pairs_of_very_many_volumes_are_sampled():
    """2,000 volumes of two subjects each have more pairs than are listed; 10 volumes keep the pairs they always had."""
    items = make_items(1000, files_per_subject=2)
    pairs = fixed_pairs(items, 500, seed=1)
    assert len({(pair["moving"], pair["fixed"]) for pair in pairs}) == 500
    assert all(pair["moving_subject"] != pair["fixed_subject"] for pair in pairs)
    assert pairs == fixed_pairs(items, 500, seed=1) != fixed_pairs(items, 500, seed=2)
    order = {item["image"]: index for index, item in enumerate(items)}
    assert 800 < np.mean([order[pair["moving"]] for pair in pairs]) < 1200  # of 0 to 1999, all over the list


def test_a_hundred_thousand_volumes_are_split_and_paired():
    """Their pairs are 10^10, of the validation part 4 * 10^8: a list of them would not fit into memory."""
    parts = split_volumes(make_items(100_000, labels=False), 0.2, seed=0)
    assert len(parts["validation"]) == 20_000 and len(fixed_pairs(parts["validation"], 8, seed=0)) == 8


def test_the_pairs_of_few_volumes_do_not_change():
    pairs = fixed_pairs(make_items(10), 4, seed=0)
    names = [(pair["moving_subject"], pair["fixed_subject"]) for pair in pairs]
    assert names == [("s3", "s0"), ("s2", "s3"), ("s1", "s5"), ("s9", "s0")]


def test_fixed_pairs_counts(caplog):
    assert len(fixed_pairs(make_items(3), 6, seed=0)) == 6 and not caplog.records
    assert len(fixed_pairs(make_items(3), 7, seed=0)) == 6
    assert "only 6 of 7 validation pairs exist for 3 subjects" in caplog.text
    with pytest.raises(ValueError, match="3 pairs of 1 subjects"):
        fixed_pairs(make_items(1, files_per_subject=3), 3, seed=0)
    with pytest.raises(ValueError, match="0 pairs"):
        fixed_pairs(make_items(3), 0, seed=0)
