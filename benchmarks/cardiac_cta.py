# SPDX-License-Identifier: Apache-2.0
"""Measures the phantom-trained heart and coronary bundles on a real contrast CT of a heart.

python -m benchmarks.cardiac_cta --data ../shared/data/cardiac_cta

The folder holds ct.nii.gz and label_heart1_aorta2_pa3.nii.gz (TotalSegmentator's test data, Apache-2.0). Writes
benchmarks/results/cardiac_cta.json and a picture into the docs of each bundle. The reference is one structure for the
whole heart, the whole aorta in view, and the pulmonary artery; the bundle's five chambers and walls are merged.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import nibabel
import numpy as np
import torch
from nibabel.affines import voxel_sizes

from benchmarks.bundles import BENCHMARKS, BUNDLES, workflow
from custom.figures import GrayScale, comparison_figure, middle_planes, save_figure, segmentation_figure
from custom.files import read_json, write_json
from custom.metrics import segmentation_measures
from custom.running import run_tool
from custom.volumes import check_same_grid, load_volume, whole_numbers

MERGED = {"heart": (205, 420, 500, 550, 600), "aorta": (820,), "pulmonary_artery": (850,)}
BUNDLE_NAMES = ("gvsl_seg_heart", "gvsl_seg_coronary")
CTA = GrayScale((200, 800))
REFERENCE = {"heart": 1, "aorta": 2, "pulmonary_artery": 3}


def main(data: str, output: str = str(BENCHMARKS / "results" / "cardiac_cta.json"), docs: str = "") -> None:
    """Segments the volume, measures the result and draws the pictures.

    Args:
        data: folder with the two files.
        output: file for the JSON.
        docs: folder for the pictures; by default the docs of each bundle.

    Raises:
        VolumeError: a file cannot be used, or the two have different grids.
    """
    ct, reference = (Path(data) / name for name in ("ct.nii.gz", "label_heart1_aorta2_pa3.nii.gz"))
    image, label = load_volume(ct), load_volume(reference, is_label=True)
    check_same_grid(label, image)
    volume, true, affine = image[0].numpy(), whole_numbers(label), np.asarray(image.affine)
    heart, arteries = (predicted(name, ct) for name in BUNDLE_NAMES)

    merged = np.zeros_like(true)
    for name, values in MERGED.items():
        merged[np.isin(heart, values)] = REFERENCE[name]
    spacing = voxel_sizes(affine)
    measures = segmentation_measures(torch.as_tensor(merged), torch.as_tensor(true), REFERENCE, spacing)
    inside = arteries > 0
    near = float(np.mean(true[inside] == REFERENCE["heart"])) if inside.any() else None
    coronary = {
        "volume_ml": float(inside.sum() * np.prod(spacing) / 1000),
        "share_inside_the_heart_label": near,
        "median_hu": float(np.median(volume[inside])) if inside.any() else None,
        "weights": sha("gvsl_seg_coronary"),
    }
    heart_measures = without_nan(measures) | {"weights": sha("gvsl_seg_heart")}
    write_json(Path(output), {"volume": ct.name, "heart": heart_measures, "coronary": coronary})
    heart_png, coronary_png = (
        Path(docs, f"{name}.png") if docs else BUNDLES / name / "docs" / "real_cta.png" for name in BUNDLE_NAMES
    )
    title = "A real contrast CT; the weights were trained on phantoms"
    planes = middle_planes(volume, true, merged, affine)
    save_figure(segmentation_figure(planes, REFERENCE, title, CTA), heart_png)
    marked, true_heart = np.where(inside, 2, 0), (true == REFERENCE["heart"]).astype(np.uint8)
    planes = middle_planes(volume, true_heart, marked, affine, projected=True)
    structures = {"heart": 1, "coronary_arteries": 2}
    projected = {"prediction, projected": planes}  # the reference has no arteries that it could be compared with
    save_figure(comparison_figure(projected, structures, title, CTA), coronary_png)


def predicted(bundle: str, ct: Path) -> np.ndarray:
    """The label map that a bundle's shipped weights predict, on the grid of the file."""
    with tempfile.TemporaryDirectory() as temporary:
        workflow(bundle, ["inference.json"], {"dataset_dir": str(ct), "output_dir": temporary}, "infer").run()
        (written,) = Path(temporary).glob("*.nii.gz")
        return np.asarray(nibabel.load(written).dataobj)


def without_nan(measures: dict[str, dict[str, float]]) -> dict[str, dict[str, float | None]]:
    """Measures with None for NaN, which JSON does not have."""
    return {
        measure: {name: None if np.isnan(value) else value for name, value in values.items()}
        for measure, values in measures.items()
    }


def sha(bundle: str) -> str:
    """SHA-256 of a bundle's shipped weights."""
    return read_json(BUNDLES / bundle / "models" / "model.json")["files"]["model.pt"]["sha256"]


if __name__ == "__main__":
    run_tool(main)
