# SPDX-License-Identifier: Apache-2.0
"""What the phantom-trained heart and coronary bundles make of a real contrast CT of a heart.

python benchmarks/cardiac_cta.py --data ../shared/data/cardiac_cta

The folder holds ct.nii.gz and label_heart1_aorta2_pa3.nii.gz (TotalSegmentator's test data, Apache-2.0). Writes
benchmarks/results/cardiac_cta.json and a picture into the docs of each bundle. The reference is one structure for the
whole heart, the whole aorta in view, and the pulmonary artery; the five chambers and walls of the bundle are merged.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import fire
import nibabel
import numpy as np
import torch
from nibabel.affines import voxel_sizes

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from transfer_learning.tasks import BENCHMARKS, BUNDLES, workflow  # noqa: E402

from custom.figures import middle_planes, save_figure, segmentation_figure  # noqa: E402
from custom.files import read_json, write_json  # noqa: E402
from custom.metrics import segmentation_measures  # noqa: E402

MERGED = {"heart": (205, 420, 500, 550, 600), "aorta": (820,), "pulmonary_artery": (850,)}
REFERENCE = {"heart": 1, "aorta": 2, "pulmonary_artery": 3}


def main(data: str, output: str = str(BENCHMARKS / "results" / "cardiac_cta.json"), docs: str = "") -> None:
    """Segments, measures, draws.

    Args:
        data: the folder. output: the JSON file. docs: folder of the pictures; those of the bundles' docs by default.
    """
    ct, reference = (Path(data) / name for name in ("ct.nii.gz", "label_heart1_aorta2_pa3.nii.gz"))
    image = nibabel.load(ct)
    volume, true = np.asarray(image.dataobj), np.asarray(nibabel.load(reference).dataobj).astype(np.uint8)
    heart, arteries = (predicted(name, ct) for name in ("gvsl_seg_heart", "gvsl_seg_coronary"))

    merged = np.zeros_like(true)
    for name, values in MERGED.items():
        merged[np.isin(heart, values)] = REFERENCE[name]
    spacing = voxel_sizes(image.affine)
    measures = segmentation_measures(torch.as_tensor(merged), torch.as_tensor(true), REFERENCE, spacing)
    inside = arteries > 0
    near = float(np.mean(true[inside] == REFERENCE["heart"])) if inside.any() else None
    write_json(
        Path(output),
        {
            "volume": ct.name,
            "heart": without_nan(measures) | {"weights": sha("gvsl_seg_heart")},
            "coronary": {
                "volume_ml": float(inside.sum() * np.prod(spacing) / 1000),
                "share_inside_the_heart_label": near,
                "median_hu": float(np.median(volume[inside])) if inside.any() else None,
                "weights": sha("gvsl_seg_coronary"),
            },
        },
    )
    title = "A real contrast CT: reference, prediction of the phantom-trained bundle"
    planes = middle_planes(volume, true, merged, image.affine)
    save_figure(segmentation_figure(planes, REFERENCE, title), folder(docs, "gvsl_seg_heart"))
    found = np.where(inside, 2, 0).astype(np.uint8)
    planes = middle_planes(volume, (true == REFERENCE["heart"]).astype(np.uint8), found, image.affine, projected=True)
    structures = {"heart (reference)": 1, "coronary arteries (prediction, projected)": 2}
    save_figure(segmentation_figure(planes, structures, title), folder(docs, "gvsl_seg_coronary"))


def predicted(bundle: str, ct: Path) -> np.ndarray:
    """The label map of a bundle's shipped weights, on the grid of the file."""
    with tempfile.TemporaryDirectory() as temporary:
        workflow(bundle, ["inference.json"], {"dataset_dir": str(ct), "output_dir": temporary}, "infer").run()
        (written,) = Path(temporary).glob("*.nii.gz")
        return np.asarray(nibabel.load(written).dataobj)


def without_nan(measures: dict[str, dict[str, float]]) -> dict[str, dict[str, float | None]]:
    """None for values that do not exist; JSON has no NaN."""
    return {
        measure: {name: None if np.isnan(value) else value for name, value in values.items()}
        for measure, values in measures.items()
    }


def sha(bundle: str) -> str:
    """SHA-256 of the weights that were used."""
    return read_json(BUNDLES / bundle / "models" / "model.json")["files"]["model.pt"]["sha256"]


def folder(docs: str, bundle: str) -> Path:
    """Where a bundle's picture goes."""
    return Path(docs) / f"{bundle}.png" if docs else BUNDLES / bundle / "docs" / "real_cta.png"


if __name__ == "__main__":
    fire.Fire(main)
