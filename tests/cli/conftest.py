# SPDX-License-Identifier: Apache-2.0
"""gvsl as a user types it, on volumes and with settings that take seconds."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from warm import Ended, WarmProcess

ROOT = Path(__file__).resolve().parents[2]
AFFINE = np.diag([3.5, 3.5, 3.5, 1.0])


@pytest.fixture(scope="session")
def warm() -> Iterator[WarmProcess]:
    """A process that has imported MONAI and this repository."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    process = WarmProcess(environment, "import monai.bundle, custom.cli, custom.handlers")
    yield process
    process.close()


@pytest.fixture(scope="session")
def gvsl(warm: WarmProcess) -> Callable[[str, Path], Ended]:
    """Function of the text after gvsl and the working directory."""
    return lambda text, folder: warm.run(["-m", "custom.cli", *shlex.split(text)], folder)


@pytest.fixture(scope="session")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six volumes of noise, 24^3 at 3.5 mm, with label maps of two structures of the heart."""
    root = tmp_path_factory.mktemp("volumes")
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for number in range(6):
        noise = gaussian_filter(np.random.default_rng(number).normal(size=(24, 24, 24)), 2)
        image = (600 * noise / np.abs(noise).max()).astype(np.int16)
        label = np.where(image > 150, 205, np.where(image < -150, 420, 0)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(image, AFFINE), root / "images" / f"{number}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(label, AFFINE), root / "labels" / f"{number}.nii.gz")
    return root
