# SPDX-License-Identifier: Apache-2.0
"""What every segmentation bundle promises beside `DownstreamTests`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.losses import DiceLoss
from runs import rows, workflow

from custom.files import read_json


def relabel(path: Path, change: Any) -> None:
    """Replaces a label map by change(array)."""
    image = nibabel.load(path)
    array = change(np.asarray(image.dataobj).astype(np.int16))
    nibabel.save(nibabel.Nifti1Image(array, image.affine), path)


class SegmentationTests:
    """Inherit beside `BundleTests` or `DownstreamTests`."""

    bundle: Path
    own: dict[str, Any]
    metric = "mean_dice"
    parts: list[str] = ["encoder"]  # of the backbone from which fine-tuning starts; [] for all
    reports = ("cases.csv", "metrics.json", "best.png", "median.png", "worst.png")

    def test_what_fine_tuning_takes_of_the_backbone_and_what_is_frozen_takes_all(self) -> None:
        for overlays, frozen, expected in (([], False, self.parts), ([], True, []), (["paper.json"], False, [])):
            files = ["train.json", *overlays]
            config = {
                name: value for file in files for name, value in read_json(self.bundle / "configs" / file).items()
            }
            assert ConfigParser(config | {"frozen": frozen}).get_parsed_content("pretrained_parts") == expected

    def check_paper(self, read: Any) -> None:
        assert read("patch_size") == [128, 128, 128] and read("validate#inferer").overlap == 0.5
        assert type(read("loss")) is DiceLoss and read("loss").softmax

    def test_labels_come_from_the_data(self, overrides: dict, dataset: Path) -> None:
        chosen = {name: value for name, value in overrides.items() if name != "labels"} | {"max_epochs": 1}
        output = self.train(chosen)
        values = {
            int(value) for path in (dataset / "labels").iterdir() for value in np.unique(nibabel.load(path).dataobj)
        }
        config = read_json(self.bundle / "configs" / "train.json")
        expected = values - {0, *config["background_values"]}
        assert set(read_json(output / "model.json")["labels"].values()) == expected

    def test_evaluation_measures_the_test_split(self, trained: Path, overrides: dict, tmp_path: Path) -> None:
        self.evaluate(overrides, trained, tmp_path / "evaluation")
        metrics = read_json(tmp_path / "evaluation" / "metrics.json")
        cases = rows(tmp_path / "evaluation" / "cases.csv")
        assert metrics["cases"] == len(cases) == 2
        for name in self.own["labels"]:
            mean = np.mean([float(row[f"dice_{name}"]) for row in cases])
            assert metrics["dice"][name]["mean"] == pytest.approx(mean, abs=1e-5)

    def test_inference_writes_the_values_of_the_data_set_on_the_grid_of_the_file(
        self, trained: Path, overrides: dict, dataset: Path, tmp_path: Path
    ) -> None:
        chosen = self.inference_overrides(overrides, trained, tmp_path / "predictions")
        built = workflow(self.bundle, ["inference.json"], "infer", chosen | {"dataset_dir": str(dataset / "images")})
        built.run()
        for name, tensor in torch.load(trained / "model.pt", weights_only=True).items():
            assert torch.equal(built.network_def.state_dict()[name].cpu(), tensor)
        written = sorted((tmp_path / "predictions").glob("*.nii.gz"))
        assert [path.name for path in written] == [f"{number}_label.nii.gz" for number in range(6)]
        found = set()
        for number, path in enumerate(written):
            image, label = nibabel.load(dataset / "images" / f"{number}.nii.gz"), nibabel.load(path)
            assert label.shape == image.shape and np.allclose(label.affine, image.affine)
            assert np.issubdtype(label.get_data_dtype(), np.integer)
            found |= set(np.unique(np.asarray(label.dataobj)).tolist())
        assert found <= {0, *self.own["labels"].values()} and len(found) > 1

    def test_a_single_file_is_enough(self, trained: Path, overrides: dict, dataset: Path, tmp_path: Path) -> None:
        chosen = self.inference_overrides(overrides, trained, tmp_path / "predictions")
        chosen["dataset_dir"] = str(dataset / "images" / "3.nii.gz")
        workflow(self.bundle, ["inference.json"], "infer", chosen).run()
        assert [path.name for path in (tmp_path / "predictions").glob("*.nii.gz")] == ["3_label.nii.gz"]
