# SPDX-License-Identifier: Apache-2.0
"""MR of four channels from pre-training to inference: as one file of four dimensions, and as a file a channel."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from runs import ROOT, chain, rows, workflow
from scipy.ndimage import gaussian_filter

from custom.files import read_json

PRETRAIN, HEART = (ROOT / "bundles" / name for name in ("gvsl_pretrain", "gvsl_seg_heart"))
CHANNELS, CASES = 4, 6
LABELS = {"edema": 1, "tumour": 2}
SCALES = (1.0, 200.0, 30.0, 5000.0)  # of the intensities of the channels, as in MR


def image_of(case: int) -> np.ndarray:
    """Four smooth channels of different scales that see one anatomy, (24, 24, 24, 4)."""
    generator = np.random.default_rng(case)
    anatomy = gaussian_filter(generator.normal(size=(24, 24, 24)), 2)
    noise = gaussian_filter(generator.normal(size=(24, 24, 24, 4)), (1, 1, 1, 0))
    return (np.stack([anatomy * (1 + number) for number in range(4)], -1) + 0.1 * noise).astype(np.float32) * SCALES


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same cases as nnU-Net 2 has them, a file a channel, and as the Decathlon has them, in four dimensions."""
    roots = {name: tmp_path_factory.mktemp(name) for name in ("nnunet", "decathlon")}
    for case in range(CASES):
        image = image_of(case).astype(np.float32)
        label = (1 * (image[..., 0] > 0.05) + 1 * (image[..., 0] > 0.1)).astype(np.uint8)
        for channel in range(CHANNELS):
            save(roots["nnunet"] / "imagesTr" / f"c{case}_{channel:04}.nii.gz", image[..., channel])
        save(roots["decathlon"] / "imagesTr" / f"c{case}.nii.gz", image)
        for root in roots.values():
            save(root / "labelsTr" / f"c{case}.nii.gz", label)
    names = dict(enumerate(("FLAIR", "T1w", "t1gd", "T2w")))
    described = {"channel_names": names, "labels": {"background": 0, **LABELS}, "file_ending": ".nii.gz"}
    (roots["nnunet"] / "dataset.json").write_text(json.dumps(described | {"numTraining": CASES}))
    listed = [{name: f"./{name}sTr/c{case}.nii.gz" for name in ("image", "label")} for case in range(CASES)]
    (roots["decathlon"] / "dataset.json").write_text(json.dumps({"modality": names, "training": listed, "test": []}))
    return roots


SMALL: dict[str, Any] = {
    "in_channels": CHANNELS,
    "spacing": [1.0, 1.0, 1.0],
    "patch_size": [16, 16, 16],
    "channels": [8, 16],
    "intensity": read_json(PRETRAIN / "configs" / "mr.json")["intensity"],
}
TRAINING = {"max_epochs": 1, "iterations_per_epoch": 2, "val_interval": 1, "num_workers": 0, "figures": False}


def pretrain(folder: Path, output: Path, **overrides: Any) -> Path:
    own = {"bundle_root": str(PRETRAIN), "dataset_dir": str(folder), "output_dir": str(output)}
    own |= {"validation_share": 2, "validation_pairs": 1}
    workflow(PRETRAIN, ["train.json"], "train", SMALL | TRAINING | own | overrides).run()
    return output


@pytest.fixture(scope="module")
def pretrained(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrain(folders["nnunet"], tmp_path_factory.mktemp("pretrained"))


def test_both_forms_of_a_data_set_give_the_same_training(
    folders: dict[str, Path], pretrained: Path, tmp_path: Path
) -> None:
    pretrain(folders["decathlon"], tmp_path, cache_dir=str(tmp_path / "cache"))
    for table in ("training.csv", "validation.csv"):
        first, second = rows(pretrained / table), rows(tmp_path / table)
        assert [{**row, "seconds": 0} for row in first] == [{**row, "seconds": 0} for row in second], table
    heads = torch.load(pretrained / "heads.pt", weights_only=True)
    (last,) = [tensor for name, tensor in heads.items() if name.endswith("restoration_head.3.weight")]
    assert last.shape[0] == CHANNELS and read_json(pretrained / "model.json")["network"]["in_channels"] == CHANNELS


def test_every_channel_is_scaled_by_its_own_percentiles(folders: dict[str, Path], pretrained: Path) -> None:
    own = {"bundle_root": str(PRETRAIN), "dataset_dir": str(folders["nnunet"]), "model_dir": str(pretrained)}
    item = workflow(PRETRAIN, ["inference.json"], "infer", own).parser.get_parsed_content("dataset")[0]
    assert item["image"].shape == (CHANNELS, 24, 24, 24)
    for channel, raw in zip(item["image"].numpy(), np.moveaxis(image_of(0), -1, 0), strict=True):
        low, high = np.percentile(raw, (0.5, 99.5))
        np.testing.assert_allclose(channel, np.clip((raw - low) / (high - low), 0, 1), atol=1e-4)


def test_fine_tuning_evaluation_and_inference(folders: dict[str, Path], pretrained: Path, tmp_path: Path) -> None:
    """The weights say how many channels there are, and dataset.json the structures."""
    own = {"bundle_root": str(HEART), "dataset_dir": str(folders["nnunet"])}
    split, trained = {"validation_share": 1, "test_share": 2}, tmp_path / "trained"
    training = TRAINING | {"patch_size": [16, 16, 16], "pretrained_weights": str(pretrained)}
    workflow(HEART, ["train.json"], "train", own | split | training | {"output_dir": str(trained)}).run()
    description = read_json(trained / "model.json")
    assert description["network"]["backbone"]["in_channels"] == CHANNELS and description["labels"] == LABELS

    model = {"model_dir": str(trained)}
    evaluated = own | split | model | {"output_dir": str(tmp_path / "evaluation"), "figures": False}
    workflow(HEART, ["train.json", "evaluate.json"], "train", evaluated).run()
    assert read_json(tmp_path / "evaluation" / "metrics.json")["cases"] == 2

    for form, folder in folders.items():
        files = {"dataset_dir": str(folder), "output_dir": str(tmp_path / form)}
        workflow(HEART, ["inference.json"], "infer", own | model | files).run()
    for case in range(CASES):
        maps = [nibabel.load(tmp_path / form / "imagesTr" / f"c{case}_label.nii.gz") for form in folders]
        assert maps[0].shape == (24, 24, 24)
        np.testing.assert_array_equal(*(np.asarray(label.dataobj) for label in maps))


def test_registration_warps_every_channel(folders: dict[str, Path], pretrained: Path, tmp_path: Path) -> None:
    files = [[f"imagesTr/c{case}_{channel:04}.nii.gz" for channel in range(CHANNELS)] for case in range(2)]
    own = {"bundle_root": str(PRETRAIN), "dataset_dir": str(folders["nnunet"]), "output_dir": str(tmp_path)}
    own |= {"moving": files[0], "fixed": files[1], "model_dir": str(pretrained), "refine": 2}
    own |= {f"{side}_label": f"labelsTr/c{case}.nii.gz" for case, side in enumerate(("moving", "fixed"))}
    workflow(PRETRAIN, ["register.json"], "infer", own).run()
    warped = nibabel.load(tmp_path / "warped.nii.gz")
    assert warped.shape == (24, 24, 24, CHANNELS)
    assert warped.get_fdata()[..., 3].std() > 100 * warped.get_fdata()[..., 0].std()  # each has its own intensities
    report = read_json(tmp_path / "registration.json")
    assert len(report["background"]) == CHANNELS
    assert report["files"]["moving"] == [str(folders["nnunet"] / name) for name in files[0]]
    assert 0 <= report["registration_refined"] <= 1 and 0 <= report["dice_refined"] <= 1


@pytest.mark.parametrize(
    ("form", "in_channels", "message"),
    [
        ("decathlon", 1, r"c\d.nii.gz: 4 channels or time points .* expected one 3D volume .* or --in_channels 4"),
        ("decathlon", 3, r"c\d.nii.gz: 4 channels of shape \(24, 24, 24\), expected 3 channels \(in_channels\)"),
        ("nnunet", 3, r"dataset.json: 4 channel_names \(FLAIR, T1w, t1gd, T2w\), expected in_channels, which is 3"),
    ],
)
def test_another_number_of_channels_is_named(
    form: str, in_channels: int, message: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    for more in ({}, {"cache_dir": str(tmp_path / "cache")}):
        with pytest.raises(Exception) as caught:
            pretrain(folders[form], tmp_path / "output", in_channels=in_channels, **more)
        assert re.search(message, chain(caught.value))


def test_weights_of_four_channels_fit_no_network_of_two(folders: dict[str, Path], pretrained: Path) -> None:
    own = {"bundle_root": str(HEART), "dataset_dir": str(folders["nnunet"]), "pretrained_weights": str(pretrained)}
    with pytest.raises(Exception) as caught:
        built = workflow(HEART, ["train.json"], "train", own | {"in_channels": 2})
        built.parser.get_parsed_content("network")
    assert "'in_channels': 4" in chain(caught.value) and "'in_channels': 2" in chain(caught.value)
