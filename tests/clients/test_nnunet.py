# SPDX-License-Identifier: Apache-2.0
"""nnU-Net 2 trains an epoch from weights that gvsl_pretrain made with nnunet.json."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from environments import ROOT, environment, run

from custom.files import read_json, write_json
from custom.phantoms import CardiacPhantomCohort

pytestmark = pytest.mark.clients
CONFIGS = [str(ROOT / "bundles" / "gvsl_pretrain" / "configs" / name) for name in ("train.json", "nnunet.json")]
SMALL = {
    "channels": "[8, 16, 32]",
    "network_def#blocks": "[1, 2, 2]",
    "spacing": "[8.0, 8.0, 8.0]",
    "patch_size": "[16, 16, 32]",
    "max_epochs": 1,
    "iterations_per_epoch": 4,
    "warmup_iterations": 2,
    "validation_pairs": 2,
    "num_workers": 0,
    "figures": "False",
}
DATASET, PLANS = "Dataset901_Phantoms", "nnUNetResEncUNetLPlans"
INITIAL = """
import sys, torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.run.run_training import get_trainer_from_args
trainer = get_trainer_from_args("901", "3d_fullres", 0, plans_identifier=sys.argv[1], device=torch.device("cpu"))
trainer.initialize()
load_pretrained_weights(trainer.network, sys.argv[2])
torch.save(trainer.network.state_dict(), sys.argv[3])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five phantoms, and the same ones at half the resolution as a data set of nnU-Net."""
    folder = tmp_path_factory.mktemp("nnunet")
    cohort = CardiacPhantomCohort(str(folder / "phantoms"), subjects=5, seed=3, workers=0)
    cohort.make()
    raw = folder / "raw" / DATASET
    for name, ending in (("imagesTr", "_0000"), ("labelsTr", "")):
        (raw / name).mkdir(parents=True)
        for number in range(cohort.subjects):
            volume = nibabel.load(cohort.root / cohort.files(number)["label" if name == "labelsTr" else "image"])
            voxels = np.asarray(volume.dataobj)[::2, ::2, ::2]
            voxels = (voxels == 500).astype(np.uint8) if name == "labelsTr" else voxels.astype(np.int16)
            affine = volume.affine @ np.diag([2, 2, 2, 1])
            nibabel.save(nibabel.Nifti1Image(voxels, affine), raw / name / f"case{number}{ending}.nii.gz")
    labels = {"background": 0, "left ventricle": 1}
    description = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 5, "file_ending": ".nii.gz"}
    write_json(raw / "dataset.json", description)
    return folder


def test_nnunet_trains_from_our_weights(folder: Path) -> None:
    # not with the pins: nnU-Net needs torchvision, which is not built for every build of the pinned torch
    python = environment("nnunet", [["-e", ".", "nnunetv2==2.8.1"]])
    weights = folder / "pretrained"
    options = {
        "config_file": CONFIGS,
        "bundle_root": ROOT / "bundles" / "gvsl_pretrain",
        "output_dir": weights,
        **SMALL,
    }
    options["dataset_dir"] = folder / "phantoms"
    arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    run([python, "-m", "monai.bundle", "run", *arguments], timeout=600)

    variables = {name: str(folder / name.removeprefix("nnUNet_")) for name in ("nnUNet_raw", "nnUNet_preprocessed")}
    variables |= {"nnUNet_results": str(folder / "results"), "nnUNet_compile": "f", "nnUNet_n_proc_DA": "1"}
    nnunet = {"env": os.environ | variables, "timeout": 1800}
    command = python.with_name("nnUNetv2_plan_and_preprocess")
    planner = ["-pl", "nnUNetPlannerResEncL", "-c", "3d_fullres", "-npfp", "1", "-np", "1"]
    run([command, "-d", "901", *planner], **nnunet)

    checkpoint, plans = folder / "gvsl.pth", folder / "preprocessed" / DATASET / f"{PLANS}.json"
    tool = [python, "-m", "tools.convert_weights", "to_nnunet", "--source", weights, "--output_file", checkpoint]
    assert f"-p {PLANS}_gvsl" in run([*tool, "--plans", plans], cwd=ROOT)

    run([python, "-c", INITIAL, f"{PLANS}_gvsl", checkpoint, folder / "initial.pt"], **nnunet)
    initial, ours = (torch.load(path, weights_only=True) for path in (folder / "initial.pt", weights / "model.pt"))
    loaded = [name for name in initial if ".seg_layers." not in name]
    assert any(name.startswith("encoder.") for name in loaded) and any(name.startswith("decoder.") for name in loaded)
    for name in loaded:
        tensor = ours[f"network.{name}"]
        assert torch.equal(initial[name], tensor.transpose(2, 4) if tensor.ndim == 5 else tensor), name

    train = [python.with_name("nnUNetv2_train"), "901", "3d_fullres", "0", "-p", f"{PLANS}_gvsl", "-device", "cpu"]
    run([*train, "-tr", "nnUNetTrainer_1epoch", "-pretrained_weights", checkpoint], **nnunet)
    (trained,) = (folder / "results").glob("*/nnUNetTrainer_1epoch__*/fold_0")
    assert (trained / "checkpoint_final.pth").is_file()
    assert read_json(trained / "validation" / "summary.json")["foreground_mean"]["Dice"] > 0.1
