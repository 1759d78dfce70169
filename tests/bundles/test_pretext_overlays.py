# SPDX-License-Identifier: Apache-2.0
"""Every overlay of configs/pretext trains, resumes, keeps features apart and gives weights that all bundles take."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from runs import ROOT, rows, workflow

from custom.files import read_json
from custom.weights import read_weights

PRETRAIN = ROOT / "bundles" / "gvsl_pretrain"
OVERLAYS = sorted(path.stem for path in (PRETRAIN / "configs" / "pretext").glob("*.json"))
DOWNSTREAM = sorted(path.name for path in (ROOT / "bundles").iterdir() if path.name != "gvsl_pretrain")
LIKE_OTHERS = ("denoising", "in_painting", "simsiam")  # code that models_genesis and byol run as well
SCHEDULE = {"max_epochs": 6, "iterations_per_epoch": 5, "val_interval": 3, "warmup_iterations": 3}


def pretraining(overlay: str, overrides: dict) -> ConfigWorkflow:
    return workflow(PRETRAIN, ["train.json", f"pretext/{overlay}.json"], "train", overrides | SCHEDULE)


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] if name in LIKE_OTHERS else []) for name in OVERLAYS],
)
def overlay(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def task_overrides(overlay: str, tiny_overrides: dict, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """`tiny_overrides`; for DeepCluster, to which noise gives nothing to find, with four clusters and volumes of one
    anatomy: each is that of the first subject and a little of its own."""
    if overlay != "deep_cluster":
        return tiny_overrides
    folder = Path(shutil.copytree(tiny_overrides["dataset_dir"], tmp_path_factory.mktemp("anatomy") / "data"))
    volumes = [nibabel.load(path) for path in sorted((folder / "images").iterdir())]
    for volume, voxels in [(volume, volume.get_fdata()) for volume in volumes]:
        image = (volumes[0].get_fdata() + 0.3 * voxels).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(image, volume.affine), volume.get_filename())
    return tiny_overrides | {"dataset_dir": str(folder), "pretext_network#clusters": 4}


@pytest.fixture(scope="module")
def trained(overlay: str, task_overrides: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a finished run of 30 iterations that all tests share: they leave it as it is."""
    output = tmp_path_factory.mktemp(overlay)
    pretraining(overlay, task_overrides | {"output_dir": str(output)}).run()
    return output


def test_every_row_of_the_table_has_its_overlay() -> None:
    methods = {"denoising", "in_painting", "models_genesis", "rotation", "deep_cluster", "simsiam", "byol", "simclr"}
    assert methods | {"without_matching", "without_restoration", "without_affine"} <= set(OVERLAYS)


def merged(*overlays: str) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(PRETRAIN / "configs" / name) for name in ("train.json", *overlays)])
    return parser


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_order_of_paper_and_overlay_does_not_matter(overlay: str) -> None:
    overlay = f"pretext/{overlay}.json"
    alone, first, last = merged(overlay), merged(overlay, "paper.json"), merged("paper.json", overlay)
    assert first.get() == last.get()
    for key in ("pretext_network", "loss", "matching_head", "train#pair_transform"):
        assert first[key] == alone[key], key


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_steps_with_the_paper_config_and_keeps_its_views(
    overlay: str, tiny_overrides: dict, tmp_path: Path
) -> None:
    chosen = {"output_dir": str(tmp_path), "cache_dir": str(tmp_path / "cache"), "figures": False}
    chosen |= {"max_epochs": 1, "iterations_per_epoch": 1, "val_interval": 2}
    chosen |= {"pretext_network#clusters": 4} if overlay == "deep_cluster" else {}
    names = ["train.json", f"pretext/{overlay}.json", "paper.json"]
    built = workflow(PRETRAIN, names, "train", tiny_overrides | chosen)
    get = built.parser.get_parsed_content
    transform = get("train#spatial_transform")
    built.run()
    rates = [group["lr"] for group in get("optimizer").param_groups]
    assert rates == pytest.approx([1e-4, 1e-3] if overlay == "deep_cluster" else [1e-4])
    assert np.isfinite(float(rows(tmp_path / "training.csv")[0]["loss"]))

    volume = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    warped = transform(dict.fromkeys(transform.group_of, volume) | {"seed": torch.tensor([5])})
    for key, group in transform.group_of.items():
        for other, its_group in transform.group_of.items():
            same_view = group == its_group or overlay.startswith("without_")  # paper.json: one transform for a pair
            assert torch.equal(warped[key], warped[other]) == same_view, (key, other)


def test_the_loss_falls_and_features_stay_apart(overlay: str, trained: Path) -> None:
    losses = torch.tensor([float(row["loss"]) for row in rows(trained / "training.csv")])
    assert len(losses) == 30 and losses[-10:].mean() < losses[:10].mean()
    held_out = rows(trained / "validation.csv")
    assert [row["iteration"] for row in held_out] == ["15", "30"]
    for features, channels in (("local", 8), ("bottleneck", 16)):
        assert float(held_out[-1][f"effective_rank_{features}"]) >= 0.1 * channels
        assert float(held_out[-1][f"spread_{features}"]) > 1e-3
    assert 0 <= float(held_out[-1]["label_recovery"]) <= 1


def test_the_weights_say_what_made_them(overlay: str, trained: Path) -> None:
    description = read_json(trained / "model.json")
    assert description["pretext_task"] == overlay and description["iterations"] == 30
    assert description["files"]["heads.pt"]["parameters"] > 0


def test_a_stopped_run_goes_on_to_the_same_numbers(
    overlay: str, trained: Path, task_overrides: dict, tmp_path: Path
) -> None:
    overrides = task_overrides | {"output_dir": str(tmp_path)}
    stopped = pretraining(overlay, overrides)
    trainer = stopped.parser.get_parsed_content("train#trainer")
    trainer.add_event_handler("EPOCH_COMPLETED", lambda engine: engine.state.epoch == 2 and engine.terminate())
    stopped.run()
    pretraining(overlay, overrides | {"resume": True}).run()
    assert (tmp_path / "training.csv").read_bytes() == (trained / "training.csv").read_bytes()
    whole, parts = read_weights(trained)[0], read_weights(tmp_path)[0]
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize("bundle", DOWNSTREAM)
def test_every_downstream_bundle_takes_the_weights(
    bundle: str, trained: Path, tiny_overrides: dict, tmp_path: Path
) -> None:
    folder = ROOT / "bundles" / bundle
    chosen = {name: tiny_overrides[name] for name in ("spacing", "patch_size", "channels", "num_workers")}
    chosen |= {"bundle_root": str(folder), "output_dir": str(tmp_path), "pretrained_weights": str(trained)}
    chosen |= {"pretrained_parts": [], "accept_mismatch": ["intensity"]}
    parser = workflow(folder, ["train.json"], "train", chosen).parser
    parser.get_parsed_content("loaded_network")
    expected = read_weights(trained)[0]
    loaded = parser.get_parsed_content("backbone").state_dict()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)
