# SPDX-License-Identifier: Apache-2.0
"""Patches that do not fit, a file that becomes bad during training, resuming; tests/campaign has other bad input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from runs import ROOT, chain, workflow

from custom.files import read_json


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def train(overrides: dict) -> None:
    """Runs train.json."""
    workflow(ROOT / "bundles" / "gvsl_pretrain", ["train.json"], "train", overrides).run()


@pytest.fixture
def dataset(tiny_dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_dataset / "images", tmp_path / "dataset"))


def test_crop_larger_than_the_volume_is_padded_or_an_error(dataset: Path, overrides: dict) -> None:
    overrides = overrides | {"dataset_dir": str(dataset), "patch_size": [32, 32, 32], "max_epochs": 1}
    train(overrides)  # SpatialPadd in the config pads
    no_padding = {"pad": {"_target_": "Identityd", "keys": "image"}, "output_dir": overrides["output_dir"] + "_2"}
    with pytest.raises(Exception) as caught:
        train(overrides | no_padding)
    assert "(32, 32, 32)" in chain(caught.value) and "(22, 20, 24)" in chain(caught.value)
    assert ".nii.gz" in chain(caught.value)


def test_bad_file_found_later_leaves_the_checkpoint_usable(dataset: Path, overrides: dict, tmp_path: Path) -> None:
    overrides = overrides | {"dataset_dir": str(dataset), "cache_dir": str(tmp_path / "cache"), "max_epochs": 1}
    train(overrides)
    for path in dataset.glob("*.nii.gz"):  # all volumes change: the disk cache reads them again
        truncate(path)
    validation = {"validate#dataset#cache_rate": 0.0}
    with pytest.raises(Exception) as caught:
        train(overrides | {"max_epochs": 2, "resume": True, "accept_changes": ["data"]} | validation)
    assert ".nii.gz" in chain(caught.value)
    checkpoint = torch.load(Path(overrides["output_dir"]) / "checkpoints" / "checkpoint_2.pt", weights_only=True)
    assert checkpoint["trainer"]["iteration"] == 2


def test_a_run_resumes_with_its_own_settings_alone(overrides: dict, dataset: Path) -> None:
    train(overrides | {"max_epochs": 1})
    output, bundle = Path(overrides["output_dir"]), ROOT / "bundles" / "gvsl_pretrain"
    before = {path: path.read_bytes() for path in output.rglob("*.*") if path.suffix in (".csv", ".pt", ".json")}
    assert read_json(output / "model.json")["metrics"]
    resumed = overrides | {"resume": True}
    changes = {"batch_size": 2, "seed": 1, "learning_rate": 0.5, "loss#smoothness_weight": 3.0}
    (dataset / "5.nii.gz").unlink()
    for name, value in [*changes.items(), ("dataset_dir", str(dataset))]:
        with pytest.raises(Exception) as caught:
            train(resumed | {name: value})
        key = "data#volumes" if name == "dataset_dir" else name
        assert "settings.json: the run cannot resume with other settings" in chain(caught.value)
        assert f"\n  {key}: the run began with " in chain(caught.value)
    with pytest.raises(Exception) as caught:
        workflow(bundle, ["train.json", "mr.json"], "train", resumed).run()
    words = "intensity#_target_: the run began with 'ScaleIntensityRanged', now 'ScaleIntensityRangePercentilesd'"
    assert words in chain(caught.value)
    assert all(path.read_bytes() == content for path, content in before.items())

    train(resumed | {"max_epochs": 1, "figures": True})  # a run that is over: nothing changes
    assert all(path.read_bytes() == content for path, content in before.items() if path.name != "model.json")
    model = output / "model.json"
    assert read_json(model)["metrics"] == json.loads(before[model])["metrics"]
    train(resumed | {"learning_rate": 0.5, "accept_changes": ["learning_rate"]})
    assert read_json(model)["iterations"] == 4
    train(resumed | {"learning_rate": 0.5})  # the run now has this setting
