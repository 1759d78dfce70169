# SPDX-License-Identifier: Apache-2.0
"""NVIDIA FLARE's simulator pre-trains over two sites with examples/nvflare; what is evaluated is the average."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from environments import ROOT, python_with, run

from custom.files import read_json, sha256
from custom.phantoms import CardiacPhantomCohort

pytestmark = pytest.mark.clients
SITES = ("site_a", "site_b")
OVERRIDES = {
    "spacing": [8.0, 8.0, 8.0],
    "patch_size": [24, 24, 24],
    "channels": [8, 16, 32],
    "iterations_per_epoch": 6,
    "warmup_iterations": 2,
    "validation_pairs": 2,
    "figures": False,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four phantoms for each site."""
    folder = tmp_path_factory.mktemp("sites")
    cohort = CardiacPhantomCohort(str(folder / "phantoms"), subjects=8, seed=3, workers=0)
    cohort.make()
    for number in range(cohort.subjects):
        site = folder / "data" / SITES[number // 4]
        site.mkdir(parents=True, exist_ok=True)
        shutil.copy(cohort.root / cohort.files(number)["image"], site)
    return folder / "data"


def test_two_sites_and_the_evaluation_of_their_average(data: Path, tmp_path: Path) -> None:
    python = python_with("nvflare", "nvflare==2.9.0")
    job = [python, ROOT / "examples" / "nvflare" / "job.py", "--data", data, "--output", tmp_path]
    printed = run([*job, "--rounds", "2", "--overrides", str(OVERRIDES)], cwd=tmp_path, timeout=900)
    for site in SITES:
        initial, averaged = (loss_of(printed, site, round_number) for round_number in (0, 1))
        assert averaged < initial - 0.1
    for name in ("model.pt", "heads.pt"):
        average, *sites = (torch.load(tmp_path / folder / name, weights_only=True) for folder in ("federated", *SITES))
        for key, tensor in average.items():
            assert torch.allclose(tensor, (sites[0][key] + sites[1][key]) / 2, atol=1e-6), key
        assert any(not torch.equal(sites[0][key], sites[1][key]) for key in average)
    metrics = evaluated(python, tmp_path / "federated", data, tmp_path)
    assert metrics["weights"]["sha256"] == sha256(tmp_path / "federated" / "model.pt")
    assert metrics["loss"] < loss_of(printed, SITES[0], 1)  # the site printed that of the round before


def loss_of(printed: str, site: str, round_number: int) -> float:
    """What a site printed of the weights that it received."""
    found = re.search(rf"{site}, round {round_number}: loss of the average on held-out pairs ([\d.]+)", printed)
    return float(found.group(1))


def evaluated(python: Path, weights: Path, data: Path, folder: Path) -> dict:
    """metrics.json of evaluate.json for the averaged weights on the held-out pairs of the first site."""
    configs = [str(ROOT / "bundles" / "gvsl_pretrain" / "configs" / name) for name in ("train.json", "evaluate.json")]
    options = {"config_file": str(configs), "bundle_root": ROOT / "bundles" / "gvsl_pretrain", "model_dir": weights}
    options |= {"dataset_dir": data / SITES[0], "output_dir": folder / "evaluation", "validation_pairs": 2}
    command = [python, "-m", "monai.bundle", "run"]
    run([*command, *(part for name, value in options.items() for part in (f"--{name}", value))], timeout=300)
    return read_json(folder / "evaluation" / "metrics.json")
