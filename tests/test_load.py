# SPDX-License-Identifier: Apache-2.0
"""Networks with their weights in one line, and what MONAI's own `load` makes of the shipped bundles."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow, load
from scipy.ndimage import gaussian_filter

from custom import load_backbone, load_preprocessing, load_segmenter
from custom.files import read_json
from custom.networks import SegmentationNetwork, UNet3D
from custom.shipped import BUNDLES, find_weights, shipped_bundles
from custom.weights import save_weights
from tools.package_bundles import package

HEART = BUNDLES / "gvsl_seg_heart"
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume of noise on an oblique grid of another spacing than that of the weights."""
    noise = gaussian_filter(np.random.default_rng(0).normal(size=(30, 28, 20)), 2)
    affine = np.array([[-2.6, 0.4, 0, 31], [0.4, 2.6, 0, -40], [0, 0, 4, 12], [0, 0, 0, 1]])
    path = tmp_path_factory.mktemp("volume") / "ct.nii.gz"
    nibabel.save(nibabel.Nifti1Image((600 * noise / np.abs(noise).max()).astype(np.int16), affine), path)
    return path


@pytest.fixture(scope="module")
def heart_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (path,) = package(str(tmp_path_factory.mktemp("dist")), "gvsl_seg_heart")
    return Path(path)


def state_of(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)


def assert_equal(network: torch.nn.Module, expected: dict[str, torch.Tensor]) -> None:
    state = network.state_dict()
    assert state.keys() == expected.keys() and all(torch.equal(state[name], expected[name]) for name in expected)


def test_the_package_is_imported_without_torch():
    code = "import sys, custom; print('torch' in sys.modules, hasattr(custom, 'load_other'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("source", ["gvsl_pretrain", "pretrain", BUNDLES / "gvsl_pretrain", None])
def test_a_backbone_by_name_and_folder(source):
    backbone = load_backbone() if source is None else load_backbone(source)
    assert type(backbone) is UNet3D and not backbone.training
    assert_equal(backbone, state_of(BUNDLES / "gvsl_pretrain" / "models" / "model.pt"))


def test_the_second_weights_of_a_bundle_have_a_name():
    assert_equal(load_backbone("pretrain/brain"), state_of(BUNDLES / "gvsl_pretrain" / "models" / "brain" / "model.pt"))


def test_the_backbone_of_a_downstream_network_is_the_fine_tuned_one(heart_zip):
    state = state_of(HEART / "models" / "model.pt")
    expected = {name.removeprefix("backbone."): tensor for name, tensor in state.items() if "backbone." in name}
    for source in ("heart", HEART / "models", heart_zip):
        assert_equal(load_backbone(source), expected)


def test_a_segmenter_gives_the_file_that_inference_writes(volume, heart_zip, tmp_path):
    run = ConfigWorkflow(
        str(HEART / "configs" / "inference.json"),
        workflow_type="infer",
        logging_file=False,
        bundle_root=str(HEART),
        model_dir=str(HEART / "models"),
        dataset_dir=str(volume),
        output_dir=str(tmp_path),
        device="cpu",
    )
    run.initialize()
    run.run()
    written = nibabel.load(tmp_path / "ct_label.nii.gz")
    path = list(sys.path)
    for source in ("heart", HEART / "models", heart_zip):
        segment = load_segmenter(source, device="cpu")
        label = segment(volume)
        assert label.header == written.header
        assert np.array_equal(np.asarray(label.dataobj), np.asarray(written.dataobj))
        assert set(np.unique(label.dataobj)) <= {0, *segment.labels.values()}
    assert len(np.unique(written.dataobj)) > 2 and not segment.network.training
    assert segment.labels == read_json(HEART / "models" / "model.json")["labels"]
    assert sys.path == path


def test_a_folder_takes_the_bundle_of_its_task(tmp_path):
    source = BUNDLES / "gvsl_seg_brain" / "models"
    for name in ("model.pt", "model.json"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    segment = load_segmenter(tmp_path)
    assert len(segment.labels) == 28
    assert_equal(segment.network, state_of(source / "model.pt"))


def test_weights_of_an_own_task_decide_every_step(volume, tmp_path):
    """Another network, spacing, intensity and labels than those of any shipped bundle."""
    torch.manual_seed(0)
    backbone = {"_target_": "custom.networks.UNet3D", "in_channels": 1, "channels": [4, 8]}
    network = {"_target_": "custom.networks.SegmentationNetwork", "backbone": backbone, "classes": 3, "kernel_size": 1}
    description = {
        "task": "liver",
        "network": network | {"frozen": False},
        "intensity": {"_target_": "ScaleIntensityd", "keys": "image", "minv": 0.0, "maxv": 2.0},
        "preprocessing": {"spacing": [5.0, 5.0, 5.0], "orientation": "RAS", "patch_size": [16, 16, 16]},
        "labels": {"liver": 7, "tumour": 9},
    }
    state = SegmentationNetwork(UNet3D(1, [4, 8]), 3, 1).state_dict()
    save_weights(tmp_path, {"model.pt": ("network", state)}, description)
    segment = load_segmenter(tmp_path)
    image = segment.preprocessing({"image": str(volume)})["image"]
    assert np.allclose(image.pixdim, 5) and float(image.max()) == pytest.approx(2)
    assert segment.labels == description["labels"] and tuple(segment.inferer.roi_size) == (16, 16, 16)
    label = segment(volume)
    assert label.shape == nibabel.load(volume).shape and set(np.unique(label.dataobj)) <= {0, 7, 9}
    assert_equal(segment.network, state)
    assert torch.equal(load_preprocessing(tmp_path)({"image": str(volume)})["image"], image)


@pytest.mark.parametrize(("weights", "spacing"), [("pretrain", 3.5), ("pretrain/brain", 3.0), ("zip", 3.5)])
def test_a_file_becomes_the_input_of_a_backbone(weights, spacing, volume, heart_zip):
    source = heart_zip if weights == "zip" else weights
    image = load_preprocessing(source)({"image": str(volume)})["image"]
    assert np.allclose(image.pixdim, spacing) and 0 <= float(image.min()) < float(image.max()) <= 1
    with torch.no_grad():
        features = load_backbone(source)(image[None])
    assert features.shape == (1, 16, *image.shape[1:])


def test_weights_that_do_not_fit_their_description_are_refused(tmp_path):
    description = read_json(HEART / "models" / "model.json")
    del description["files"]
    narrow = SegmentationNetwork(UNet3D(1, [4, 8]), 8, 1).state_dict()
    save_weights(tmp_path, {"model.pt": ("network", narrow)}, description)
    for load_it in (load_backbone, load_segmenter):
        with pytest.raises(ValueError, match=r"the weights in .* do not fit the network in \d+ tensors:\n  backbone"):
            load_it(tmp_path)


@pytest.mark.parametrize("name", ["covid", "pretrain"])
def test_what_does_not_segment_is_no_segmenter(name):
    with pytest.raises(ValueError, match=r"model\.json: network is 'custom\.\w+\.\w+', expected a SegmentationNetwork"):
        load_segmenter(name)


@pytest.mark.parametrize("load_it", [load_backbone, load_preprocessing, load_segmenter])
def test_what_is_nowhere_is_named_with_what_exists(load_it, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"liver does not exist, expected one of \['brain', 'coronary', "):
        load_it("liver")
    with pytest.raises(FileNotFoundError, match=r"holds no model\.json, expected a folder with model\.pt and"):
        load_it(tmp_path)
    (tmp_path / "a.pt").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"a\.pt is no zip, expected the zip of a bundle"):
        load_it(tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("liver/configs/train.json", "{}")
    with pytest.raises(ValueError, match=r"b\.zip holds 0 files BUNDLE/models/model\.pt, expected one"):
        load_it(tmp_path / "b.zip")


@pytest.mark.parametrize("folder", shipped_bundles().values(), ids=shipped_bundles())
def test_load_of_monai_gives_every_tensor(folder):
    network = load(folder.name, bundle_dir=str(BUNDLES), workflow_type="inference")
    assert_equal(network, state_of(folder / "models" / "model.pt"))


def test_a_name_that_is_a_folder_with_weights_too_is_refused(tmp_path, monkeypatch):
    """`gvsl pretrain X -o pretrain` leaves such a folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(find_weights("pretrain/brain"), tmp_path / "pretrain")
    with pytest.raises(ValueError, match="name of shipped weights and of the folder pretrain, expected ./pretrain"):
        load_backbone("pretrain")
    shipped, own = (load_backbone(name).state_dict() for name in ("gvsl_pretrain/brain", "./pretrain"))
    assert all(torch.equal(own[name], tensor) for name, tensor in shipped.items())
