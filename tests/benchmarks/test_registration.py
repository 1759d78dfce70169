# SPDX-License-Identifier: Apache-2.0
"""The registration benchmark on tiny volumes; the competitors where their packages are installed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from benchmarks import registration, registration_methods
from benchmarks.bundles import ROOT
from benchmarks.transfer.task_file import read_task_file
from custom.files import read_json
from custom.volumes import write_volume

SIZE = (32, 28, 24)


def volume(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A CT of smooth blobs, shifted by a voxel for each seed, and its brighter half as label 1."""
    noise = np.roll(gaussian_filter(np.random.default_rng(0).normal(size=SIZE), 3), seed, 0)
    return (2000 * noise / np.abs(noise).max() - 500).astype(np.int16), (noise > 0).astype(np.int16)


@pytest.fixture
def task(tmp_path: Path) -> str:
    """A task file of three volumes, two of them for validation."""
    for seed in range(3):
        for folder, array in zip(("images", "labels"), volume(seed), strict=True):
            write_volume(tmp_path / "tiny" / folder / f"{seed}.nii.gz", array, np.diag([3.5, 3.5, 3.5, 1]))
    content = {"name": "tiny", "bundle": "gvsl_seg_heart", "source": "tiny", "labels": {"bright": 1}, "recipe": {}}
    content["split"] = {"pretraining": [], "validation": ["0", "1"], "test": ["2"]}
    (tmp_path / "tiny.json").write_text(json.dumps(content))
    return str(tmp_path / "tiny.json")


def test_each_method_has_dice_folds_and_seconds(task, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(registration_methods, "PACKAGES", {"syn": ("absent_package", "antspyx")})
    methods = "before,affine,network,network_refined,refined,syn"
    output, folders = tmp_path / "result.json", {"data": str(tmp_path), "work": str(tmp_path / "work")}
    registration.main(task, "validation", methods=methods, refine=10, output=str(output), **folders)
    assert "syn is left out: the package antspyx is not installed (extra `registration`)" in capsys.readouterr().out
    result = json.loads(output.read_text())
    assert len(result["pairs"]) == 2 * 5 and {row["moving"] for row in result["pairs"]} == {"0", "1"}
    assert set(result["summary"]) == {"before", "affine", "network", "network_refined", "refined"}
    median = {name: values["dice"]["median"] for name, values in result["summary"].items()}
    assert median["network_refined"] > median["network"] and median["refined"] > median["before"]
    assert result["summary"]["before"]["folded_share"]["median"] == 0
    assert not (tmp_path / "work" / "tiny" / "volumes" / "images" / "2.nii.gz").exists()  # test people are not read
    assert median["affine"] != median["before"] and median["affine"] != median["network"]
    with pytest.raises(ValueError, match="test of task tiny has 1 volumes, expected two or more"):
        registration.main(task, "test", **folders)


def test_unknown_names_are_refused(task):
    with pytest.raises(ValueError, match=r"methods \['demons'\] are not known, expected some of"):
        registration.main(task, methods="refined,demons")
    with pytest.raises(ValueError, match="methods is '', expected some of"):
        registration.main(task, methods="")
    with pytest.raises(ValueError, match="part of task tiny must be one of .*, got 'training'"):
        registration.main(task, "training")


@pytest.mark.parametrize("name", ["syn", "elastix"])
def test_a_competitor_finds_a_shift_in_voxels_of_the_fixed_grid(name):
    pytest.importorskip(registration_methods.PACKAGES[name][0])
    noise = gaussian_filter(np.random.default_rng(0).normal(size=SIZE), 2.5)
    moving = (noise - noise.min()) / np.ptp(noise)
    fixed = np.roll(moving, (-2, 1, 0), (0, 1, 2))  # fixed(p) = moving(p + (2, -1, 0))
    batch = {side: torch.from_numpy(a).float()[None, None] for side, a in (("moving", moving), ("fixed", fixed))}
    effort = {"syn": [40, 20], "elastix": 100}[name]
    displacement = getattr(registration_methods, name)(batch, [2.0, 3.0, 4.0], effort)
    assert displacement.shape == (1, 3, *SIZE)
    inner = displacement[0, :, 8:-8, 8:-8, 8:-8].flatten(1).median(dim=1).values
    assert torch.allclose(inner, torch.tensor([2.0, -1.0, 0.0]), atol=0.4)


def test_as_many_pairs_as_volumes_have_each_volume_once_on_each_side(task, tmp_path):
    content = json.loads(Path(task).read_text())
    content["split"] = {"pretraining": [], "validation": ["0", "1", "2"], "test": []}
    content["absent"] = {"bright": ["2"]}
    Path(task).write_text(json.dumps(content))
    pairs = registration.labelled_pairs(registration.read_task_file(task), "validation", tmp_path, tmp_path / "work")
    subjects = [(pair["moving_subject"], pair["fixed_subject"]) for pair in pairs]
    assert subjects == [("0", "1"), ("1", "2"), ("2", "0"), ("0", "2"), ("1", "0"), ("2", "1")]


def test_a_structure_that_was_not_contoured_has_no_dice(task, tmp_path):
    content = json.loads(Path(task).read_text())
    content |= {"labels": {"bright": 1, "dark": 2}, "absent": {"dark": ["0"]}}
    Path(task).write_text(json.dumps(content))
    for subject in ("0", "1"):
        path = tmp_path / "tiny" / "labels" / f"{subject}.nii.gz"
        _, bright = volume(int(subject))
        write_volume(path, np.where(bright == 0, 2 if subject == "1" else 0, 1), np.diag([3.5, 3.5, 3.5, 1]))
    output = tmp_path / "result.json"
    folders = {"data": str(tmp_path), "work": str(tmp_path / "work")}
    registration.main(task, "validation", methods="before", output=str(output), **folders)
    (_, bright), (_, other) = volume(0), volume(1)
    expected = 2 * (bright & other).sum() / (bright.sum() + other.sum())
    assert [row["dice"] for row in json.loads(output.read_text())["pairs"]] == pytest.approx([expected] * 2)


def test_pairs_without_a_common_structure_have_no_dice(task, tmp_path):
    content = json.loads(Path(task).read_text())
    content |= {"labels": {"bright": 1, "dark": 2}, "absent": {"bright": ["0"], "dark": ["1"]}}
    Path(task).write_text(json.dumps(content))
    output, folders = tmp_path / "result.json", {"data": str(tmp_path), "work": str(tmp_path / "work")}
    registration.main(task, "validation", methods="before", output=str(output), **folders)
    result = json.loads(output.read_text())
    assert [row["dice"] for row in result["pairs"]] == [None, None]
    assert result["summary"]["before"]["dice"] is None
    assert result["summary"]["before"]["folded_share"]["median"] == 0


def test_the_median_dice_is_that_of_the_pairs_that_have_one():
    rows = [{"dice": value, "folded_share": 0.0, "seconds": 1.0} for value in (0.25, None, 0.75)]
    assert registration.summaries(rows)["dice"] == {"median": 0.5, "quartile_1": 0.375, "quartile_3": 0.625}


def test_pairs_of_phantoms_that_no_training_has_seen(tmp_path):
    pairs = registration.labelled_pairs(read_task_file("phantoms"), "test", tmp_path, tmp_path)
    assert len(pairs) == 30 and all(Path(pair[side]).is_file() for pair in pairs for side in ("moving", "fixed_label"))
    for side in ("moving", "fixed"):
        assert len({pair[f"{side}_subject"] for pair in pairs[:6]}) == 6  # each once
    configs = [read_json(path) for path in ROOT.glob("bundles/*/configs/train.json")]
    assert registration.NEW_PHANTOMS not in [config["cohort"]["seed"] for config in configs]
