# SPDX-License-Identifier: Apache-2.0
"""gvsl_seg_heart keeps the promises of every downstream bundle, and those of segmentation."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from downstream import DownstreamTests
from monai.bundle import ConfigParser
from monai.data import decollate_batch, list_data_collate
from runs import ROOT, chain
from scipy.ndimage import gaussian_filter, zoom
from scipy.spatial.transform import Rotation
from segmentation import SegmentationTests, relabel

from custom.files import read_json
from custom.phantoms import CARDIAC_LABELS

BUNDLE = ROOT / "bundles" / "gvsl_seg_heart"
VALUES = {"outer": 205, "inner": 850}


def save(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


@pytest.fixture(scope="session")
def heart_dataset(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_dataset` with the values of MM-WHS, the stray 421 among them."""
    root = Path(shutil.copytree(tiny_dataset, tmp_path_factory.mktemp("heart") / "data"))
    for path in (root / "labels").iterdir():
        relabel(path, lambda array: np.array([0, 205, 850], dtype=np.int16)[array])
    relabel(
        root / "labels" / "0.nii.gz", lambda array: np.where(np.arange(array.size).reshape(array.shape) < 9, 421, array)
    )
    return root


class TestSegHeart(SegmentationTests, DownstreamTests):
    bundle = BUNDLE
    own = {"labels": VALUES}

    @pytest.fixture(scope="class")
    def dataset(self, heart_dataset: Path) -> Path:
        return heart_dataset

    def test_default_labels_are_those_of_the_data_set(self) -> None:
        config = json.loads((BUNDLE / "configs" / "train.json").read_text())
        assert config["labels"]["default"] == CARDIAC_LABELS and config["background_values"] == [421]
        metadata = json.loads((BUNDLE / "configs" / "metadata.json").read_text())
        channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
        assert list(channels.values()) == ["background", *CARDIAC_LABELS]

    def test_a_cache_on_disk_changes_no_number(self, trained: Path, overrides: dict, tmp_path: Path) -> None:
        chosen = overrides | {"cache_dir": str(tmp_path / "cache")}
        output = self.train(chosen)
        assert len(list((tmp_path / "cache").iterdir())) == 4  # three volumes of training, one of validation
        for name in ("training.csv", "validation.csv"):
            assert (output / name).read_bytes() == (trained / name).read_bytes()
        for name, kind in (("with", chosen), ("without", overrides)):
            self.evaluate(kind, output, tmp_path / name)  # predictions go back to the grid of the file
        assert (tmp_path / "with" / "cases.csv").read_bytes() == (tmp_path / "without" / "cases.csv").read_bytes()

    # ---------------------------------------------------------------------------------------------- bad input

    @pytest.mark.parametrize("fault", ["grid", "value", "missing"])
    def test_bad_labels_are_named_before_training(
        self, fault: str, overrides: dict, dataset: Path, tmp_path: Path
    ) -> None:
        copy = Path(shutil.copytree(dataset, tmp_path / "copy"))
        label = copy / "labels" / "2.nii.gz"
        names = [str(label)]
        if fault == "grid":
            image = nibabel.load(label)
            shifted = image.affine + np.array([[0, 0, 0, 2.0]] + 3 * [[0, 0, 0, 0]])
            nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), shifted), label)
            names += [str(copy / "images" / "2.nii.gz"), "label map lies up to 2.00 mm off"]
        elif fault == "value":
            relabel(label, lambda array: np.where(array == 850, 777, array))
            names += ["label values 777", "'inner': 850", "421"]
        else:
            label.unlink()
            names = [str(copy / "images" / "2.nii.gz"), "no label"]
        everything = {"validation_share": 1, "test_share": 0, "dataset_dir": str(copy)}
        with pytest.raises((RuntimeError, ValueError)) as error:
            self.train(overrides | everything)
        assert all(name in chain(error.value) for name in names), chain(error.value)
        assert not (Path(overrides["output_dir"]) / "training.csv").exists()

    def test_a_class_that_no_training_volume_holds_is_named(
        self, overrides: dict, dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        copy = Path(shutil.copytree(dataset, tmp_path / "copy"))
        for path in (copy / "labels").iterdir():
            relabel(path, lambda array: np.where(array == 850, 0, array))
        with caplog.at_level(logging.WARNING):
            self.train(overrides | {"dataset_dir": str(copy), "max_epochs": 1})
        warnings = [record.message for record in caplog.records if "cannot be learnt" in record.message]
        assert warnings == ["none of the 3 training volumes holds inner: it cannot be learnt"]

    # ------------------------------------------------------------------------------- sliding window, round trip

    @pytest.mark.parametrize("shape", [(50, 33, 17), (16, 16, 16), (9, 40, 16), (31, 31, 47)])
    def test_the_sliding_window_visits_every_voxel(self, shape: tuple[int, int, int], overrides: dict) -> None:
        parser = ConfigParser(json.loads((BUNDLE / "configs" / "inference.json").read_text()))
        parser["patch_size"] = [16, 16, 16]
        inferer, visited = parser.get_parsed_content("inferer"), []

        def double(window: torch.Tensor) -> torch.Tensor:
            visited.append(window.shape)
            return 2 * window

        image = 1 + torch.rand(1, 1, *shape)
        assert torch.allclose(inferer(image, double), 2 * image, rtol=1e-5)
        assert len(visited) >= np.prod([max(side / 16, 1) for side in shape]) / 2

    @pytest.mark.parametrize("spacing", [[1.0, 1.0, 1.0], [1.5, 1.5, 1.5]])
    @pytest.mark.parametrize("kind", ["evaluate", "inference"])
    def test_a_perfect_prediction_comes_back_on_an_oblique_anisotropic_grid(
        self, kind: str, spacing: list[float], tmp_path: Path
    ) -> None:
        """The network's output is replaced by the one-hot label on the network's grid."""
        affine = np.eye(4)
        directions = Rotation.from_euler("xyz", [12, -8, 31], degrees=True).as_matrix()[:, [1, 2, 0]] * [-1, 1, 1]
        affine[:3, :3], affine[:3, 3] = directions * [1.2, 3.0, 0.9], [40, -70, 300]
        rough = np.random.default_rng(0).normal(size=(16, 12, 18))
        noise = zoom(gaussian_filter(rough, 2), (3, 1.5, 3), order=3)
        reference = np.digitize(noise / noise.std(), (0.2, 1.0))
        values = np.array([0, *VALUES.values()], dtype=np.int16)
        save(tmp_path / "images" / "case.nii.gz", (300 * noise / noise.std()).astype(np.int16), affine)
        save(tmp_path / "labels" / "case.nii.gz", values[reference], affine)
        item = {key: str(tmp_path / f"{key}s" / "case.nii.gz") for key in ("image", "label")}
        parser = ConfigParser(json.loads((BUNDLE / "configs" / "train.json").read_text()))
        parser.update({"labels": VALUES, "spacing": spacing, "bundle_root": str(tmp_path)})
        parser["imports"] = ["$import os", "$import torch", "$import monai"]
        chain_of_training = parser.get_parsed_content("validate#preprocessing")
        on_network_grid = chain_of_training(item)["label"].as_tensor()
        one_hot = torch.stack([on_network_grid[0] == place for place in range(3)]).float() * 20  # logits

        if kind == "evaluate":
            parser = ConfigParser(json.loads((BUNDLE / "configs" / "train.json").read_text()))
            for name, value in json.loads((BUNDLE / "configs" / "evaluate.json").read_text()).items():
                parser[name] = value
            preprocessing, postprocessing = "validate#preprocessing", "validate#postprocessing"
        else:
            parser = ConfigParser(json.loads((BUNDLE / "configs" / "inference.json").read_text()))
            preprocessing, postprocessing = "preprocessing", "postprocessing"
        changes = {
            "labels": VALUES,
            "spacing": spacing,
            "bundle_root": str(tmp_path),
        }
        parser.update(changes)
        prepared = parser.get_parsed_content(preprocessing)(item)
        assert prepared["image"].shape[1:] == one_hot.shape[1:]
        batch = list_data_collate([prepared])  # as the evaluator does
        batch["pred"] = batch["image"].repeat(1, 3, 1, 1, 1)
        batch["pred"][:] = one_hot
        result = parser.get_parsed_content(postprocessing)(decollate_batch(batch)[0])

        if kind == "evaluate":
            predicted = result["pred"][0].numpy()
            assert result["image"].shape[1:] == result["label"].shape[1:] == reference.shape
            assert np.array_equal(result["label"][0].numpy(), reference)
            difference = np.abs(
                result["image"][0].numpy() - (np.clip(300 * noise / noise.std(), -1024, 1024) + 1024) / 2048
            )
            assert np.median(difference) < 0.01
        else:
            assert np.allclose(result["pred"].affine, affine, atol=1e-4) and result["pred"].shape[1:] == reference.shape
            predicted = np.searchsorted(values, result["pred"][0].numpy())
            assert set(np.unique(result["pred"])) == set(values.tolist())
        for place in (1, 2):
            first, second = predicted == place, reference == place
            dice = 2 * (first & second).sum() / (first.sum() + second.sum())
            assert dice > (0.97 if spacing[0] == 1 else 0.93), (place, dice)

    # ------------------------------------------------------------------------------------- any Decathlon data

    def test_decathlon_data_works_by_overrides_alone(self, shared_data: Path, overrides: dict, tmp_path: Path) -> None:
        """Five of the hippocampus crops in Decathlon's layout: two structures, MR, per-image intensities."""
        source, root = shared_data / "hippocampus", tmp_path / "Task04"
        names = sorted(path.name for path in (source / "images").iterdir())[:5]
        for ours, folder in (("images", "imagesTr"), ("labels", "labelsTr")):
            (root / folder).mkdir(parents=True)
            for name in names:
                shutil.copy(source / ours / name, root / folder / name)
        cases = [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names]
        content = {"name": "Hippocampus", "training": cases[:4], "test": cases[4:]}
        (root / "dataset.json").write_text(json.dumps(content))
        intensity = {"_target_": "ScaleIntensityRangePercentilesd", "keys": "image", "lower": 0.5, "upper": 99.5}
        intensity |= {"b_min": 0.0, "b_max": 1.0, "clip": True}
        chosen = overrides | {
            "dataset_dir": str(root),
            "labels": {"anterior": 1, "posterior": 2},
            "background_values": [],
            "intensity": intensity,
            "accept_mismatch": ["intensity"],
        }
        output = self.train(chosen)
        self.evaluate(chosen, output, tmp_path / "evaluation")
        assert read_json(tmp_path / "evaluation" / "metrics.json")["dice"].keys() == {
            "overall",
            "anterior",
            "posterior",
        }
        assert read_json(output / "model.json")["intensity"] == intensity
