# SPDX-License-Identifier: Apache-2.0
"""The README's picture of two real brains: python -m tools.draw_registration --moving FILE --fixed FILE --output PNG

register.json of gvsl_pretrain registers two skull-stripped MRs, for docs/registration.png subjects 07 and 04 of
OpenNeuro ds002748 (CC0), which were held out when the weights were trained. The outlines are those of brain and white
matter, found by a threshold in each volume.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.bundle import ConfigWorkflow
from nibabel.affines import voxel_sizes
from scipy.ndimage import gaussian_filter
from skimage.filters import threshold_multiotsu

from custom.figures import UNITLESS, RegisteredPair, registration_figure, registration_in_words
from custom.files import read_json
from custom.registration import pull_image, read_displacement_field
from custom.running import run_tool

from .small_picture import save_small

CONFIGS = Path(__file__).parents[1] / "bundles" / "gvsl_pretrain" / "configs"
BIAS_MM = 25.0  # smoothing that leaves only the coil's bias of an MR


def main(
    moving: str,
    fixed: str,
    output: str,
    model_dir: str = str(CONFIGS.parent / "models" / "brain"),
    refine: int = 60,
) -> None:
    """Registers two volumes and draws them on the grid of the fixed file.

    Args:
        moving: skull-stripped MR, zero outside of the brain.
        fixed: another one, in RAS order.
        output: the PNG.
        model_dir: weights of gvsl_pretrain.
        refine: steps of the refinement of register.json.
    """
    with tempfile.TemporaryDirectory() as folder:
        register(moving, fixed, folder, model_dir, refine)
        pair, measures = read_pair(Path(folder))
    measured = registration_in_words(measures)
    save_small(registration_figure(pair, UNITLESS, f"Two brains, T1 MR: {measured}"), Path(output))


def register(moving: str, fixed: str, folder: str, model_dir: str, refine: int) -> None:
    """Runs register.json; its files go to `folder`. The other arguments are those of `main`."""
    chosen = {"moving": str(Path(moving).resolve()), "fixed": str(Path(fixed).resolve()), "output_dir": folder}
    chosen |= {"model_dir": model_dir, "refine": refine}
    workflow = ConfigWorkflow(
        str(CONFIGS / "register.json"),
        str(CONFIGS / "metadata.json"),
        logging_file=False,
        workflow_type="infer",
        bundle_root=str(CONFIGS.parent),
        **chosen,
    )
    workflow.initialize()
    workflow.run()


def read_pair(folder: Path) -> tuple[RegisteredPair, dict[str, Any]]:
    """The pair in the output folder of register.json on the grid of the fixed file, and its measures.

    Raises:
        ValueError: the fixed file is not in RAS order.
    """
    report = read_json(folder / "registration.json")
    moving, fixed = (nibabel.load(report["files"][side]) for side in ("moving", "fixed"))
    if (order := "".join(nibabel.aff2axcodes(fixed.affine))) != "RAS":
        raise ValueError(f"{report['files']['fixed']} is in {order} order, expected RAS")
    field, grid = read_displacement_field(folder / report["written"]["displacement_field"])
    before = np.broadcast_to((centre(moving) - centre(fixed)).reshape(3, 1, 1, 1), field.shape)
    spacing = voxel_sizes(fixed.affine)
    image, tissue = moving.get_fdata(), tissues(moving)

    def pulled(volume: np.ndarray, displacement: np.ndarray, nearest: bool = False) -> np.ndarray:
        return pull_image(volume, moving.affine, displacement, grid, 0, nearest)

    labels = pulled(tissue, before, nearest=True), tissues(fixed), pulled(tissue, field, nearest=True)
    volumes = map(scaled, (pulled(image, before), fixed.get_fdata(), pulled(image, field)))
    return RegisteredPair(*volumes, (field - before) / spacing.reshape(3, 1, 1, 1), spacing, labels), report


def centre(image: nibabel.Nifti1Image) -> np.ndarray:
    """The middle of a volume in millimetres, RAS; registration begins with the middles on each other."""
    return image.affine[:3, :3] @ ((np.array(image.shape) - 1) / 2) + image.affine[:3, 3]


def scaled(volume: np.ndarray) -> np.ndarray:
    """Intensities divided by the 99th percentile of the brain."""
    return volume / np.percentile(volume[volume > 0], 99)


def tissues(image: nibabel.Nifti1Image) -> np.ndarray:
    """Label map of a skull-stripped T1: 1 gray matter and fluid, 2 white matter by a threshold of Otsu."""
    volume, sigma = image.get_fdata(), BIAS_MM / voxel_sizes(image.affine)
    brain = volume > 0
    bias = gaussian_filter(volume, sigma) / np.maximum(gaussian_filter(brain.astype(float), sigma), 1e-3)
    corrected = gaussian_filter(volume, 0.7) / np.where(brain, bias, np.inf)
    _, white = threshold_multiotsu(corrected[brain], 3)
    return brain.astype(np.uint8) + (brain & (corrected > white)).astype(np.uint8)


if __name__ == "__main__":
    run_tool(main)
