# SPDX-License-Identifier: Apache-2.0
"""A tiny data set on disk and the overrides that make a bundle run on it in seconds."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "bundles" / "gvsl_pretrain"
CONFIGS = BUNDLE / "configs"


def write_volume(path: Path, seed: int, shape: tuple[int, int, int] = (22, 20, 24), spacing: float = 1.0) -> Path:
    """A smooth random volume in HU as int16 NIfTI."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = (600 * noise / np.abs(noise).max()).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(image, np.diag([spacing] * 3 + [1.0])), path)
    return path


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six volumes with label maps 1 and 2, as images/ and labels/."""
    root = tmp_path_factory.mktemp("tiny")
    for subject in range(6):
        image = nibabel.load(write_volume(root / "images" / f"{subject}.nii.gz", subject))
        label = 1 * (image.get_fdata() > 100) + 1 * (image.get_fdata() > 300)
        (root / "labels").mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(label.astype(np.uint8), image.affine), root / "labels" / f"{subject}.nii.gz")
    return root


@pytest.fixture(scope="session")
def tiny_overrides(tiny_dataset: Path) -> dict:
    """Overrides of train.json: two levels, 16^3, two epochs of two iterations."""
    return {
        "bundle_root": str(BUNDLE),
        "dataset_dir": str(tiny_dataset),
        "labels": [1, 2],
        "spacing": [1.0, 1.0, 1.0],
        "patch_size": [16, 16, 16],
        "channels": [8, 16],
        "validation_share": 0.34,
        "validation_pairs": 2,
        "max_epochs": 2,
        "iterations_per_epoch": 2,
        "val_interval": 1,
        "num_workers": 0,
    }


@pytest.fixture
def overrides(tiny_overrides: dict, tmp_path: Path) -> dict:
    """`tiny_overrides` with a folder of the test's own for the output."""
    return tiny_overrides | {"output_dir": str(tmp_path / "output")}
