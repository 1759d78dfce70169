# SPDX-License-Identifier: Apache-2.0
"""The data of a run: the user's folder is left alone, the default cohort is made, nothing leaks between the parts."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from custom.data import fingerprint, inference_data, pretraining_data


class Cohort:
    """Counts how often it is made."""

    def __init__(self, root: Path) -> None:
        self.root, self.made = root, 0

    def make(self) -> None:
        self.made += 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
        for subject in range(6):
            volume = nibabel.Nifti1Image(np.full((4, 4, 4), subject, dtype=np.int16), np.eye(4))
            nibabel.save(volume, tmp_path / part / f"{subject}.nii.gz")
    return tmp_path


def test_held_out_subjects_and_labels_stay_out_of_training(folder: Path) -> None:
    data = pretraining_data(str(folder), validation=2, validation_pairs=2, seed=0)
    assert all(set(item) == {"image", "subject"} for item in data["training"])
    held_out = {pair[side] for pair in data["validation"] for side in ("moving_subject", "fixed_subject")}
    assert len(data["training"]) == 4 and len(held_out) == 2
    assert not held_out & {item["subject"] for item in data["training"]}
    assert all("moving_label" in pair for pair in data["validation"])


def test_the_cohort_is_made_only_for_its_own_folder(folder: Path, tmp_path: Path) -> None:
    elsewhere, here = Cohort(tmp_path / "elsewhere"), Cohort(folder)
    pretraining_data(str(folder), elsewhere, validation=2)
    pretraining_data(str(folder) + "/", here, validation=2)
    assert (elsewhere.made, here.made) == (0, 1)


def test_inference_takes_a_file_or_a_folder(folder: Path) -> None:
    single = folder / "images" / "3.nii.gz"
    assert inference_data(str(single)) == [{"image": str(single), "subject": "3.nii.gz", "output": "3"}]
    assert [item["output"] for item in inference_data(str(folder))] == [f"images/{number}" for number in range(6)]


def test_fingerprint_depends_on_names_and_sizes_but_not_on_the_place(folder: Path, tmp_path: Path) -> None:
    items = [{"image": str(path)} for path in sorted((folder / "images").iterdir())]
    moved = tmp_path / "moved"
    (folder / "images").rename(moved)
    again = [{"image": str(path)} for path in sorted(moved.iterdir())]
    with pytest.raises(FileNotFoundError):
        fingerprint(items)
    first = fingerprint(again)
    assert first["volumes"] == 6
    (moved / "0.nii.gz").write_bytes(b"longer than before" * 100)
    assert fingerprint(again) != first
