# SPDX-License-Identifier: Apache-2.0
"""gvsl_covid_cls keeps the promises of every downstream bundle, and those of classification."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from downstream import DownstreamTests, read_config
from monai.bundle import ConfigParser
from runs import ROOT, chain, rows, workflow

from custom.files import read_json
from custom.metrics import roc_auc
from custom.weights import network_from

BUNDLE = ROOT / "bundles" / "gvsl_covid_cls"
LISTS = {"training": (0, 1, 2), "validation": (3, 4), "test": (5, 6)}


def write_chest(path: Path, seed: int, ill: bool) -> None:
    """24 x 22 x 20 voxels of 1 mm: a body with two lungs of noise; in the ill a dense spot."""
    random = np.random.default_rng(seed)
    chest = np.full((24, 22, 20), -1000.0)
    chest[2:22, 2:20] = 40
    for x in (slice(6, 11), slice(13, 18)):
        chest[x, 6:16, 3:17] = -850
    if ill:
        chest[7:10, 8:11, 5:9] = -300
    path.parent.mkdir(parents=True, exist_ok=True)
    image = (chest + random.normal(0, 20, chest.shape)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(image, np.diag([-1.0, -1.0, 1.0, 1.0])), path)


def write_masks(root: Path) -> None:
    """The lungs of each image as masks/."""
    (root / "masks").mkdir()
    mask = np.zeros((24, 22, 20), np.uint8)
    mask[6:18, 6:16, 3:17] = 1
    for path in (root / "images").iterdir():
        nibabel.save(nibabel.Nifti1Image(mask, nibabel.load(path).affine), root / "masks" / path.name)


def write_lists(root: Path, change: dict[int, Any] | None = None) -> None:
    """dataset.json; every second subject is ill, `change` gives other labels."""
    labels = {number: number % 2 for number in range(7)} | (change or {})
    content = {
        part: [
            {
                "image": f"./images/{number}.nii.gz",
                "mask": f"./masks/{number}.nii.gz",
                "label": labels[number],
                "subject": f"subject {number}",
            }
            for number in numbers
        ]
        for part, numbers in LISTS.items()
    }
    (root / "dataset.json").write_text(json.dumps(content))


@pytest.fixture(scope="session")
def chests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("chests")
    for number in range(7):
        write_chest(root / "images" / f"{number}.nii.gz", number, bool(number % 2))
    write_masks(root)
    write_lists(root)
    return root


class TestCovidCls(DownstreamTests):
    bundle = BUNDLE
    own = {"labels": {"no COVID-19": 0, "COVID-19": 1}, "lungs#minimum_volume": 0.5}
    shipped = {"lungs#minimum_volume": 0.5}
    metric = "roc_auc"
    reports = ("cases.csv", "metrics.json", "roc.png", "best.png", "median.png", "worst.png")

    @pytest.fixture(scope="class")
    def dataset(self, chests: Path) -> Path:
        return chests

    def check_paper(self, read: Any) -> None:
        assert isinstance(read("loss"), torch.nn.CrossEntropyLoss)

    def test_volumes_without_label_are_all_named(self, overrides: dict, dataset: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(dataset, tmp_path / "copy"))
        content = json.loads((copy / "dataset.json").read_text())
        for entry in content["training"][:2]:
            del entry["label"]
        (copy / "dataset.json").write_text(json.dumps(content))
        with pytest.raises((RuntimeError, ValueError)) as error:
            self.train(overrides | {"dataset_dir": str(copy)})
        assert "2 of 7 volumes have no label" in chain(error.value)
        assert all(f"{number}.nii.gz" in chain(error.value) for number in (0, 1))

    def test_a_folder_for_each_class_is_a_data_set(self, overrides: dict, dataset: Path, tmp_path: Path) -> None:
        classes = list(self.own["labels"])
        for number in range(7):
            folder = tmp_path / "data" / classes[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(dataset / "images" / f"{number}.nii.gz", folder)
        folders = {"dataset_dir": str(tmp_path / "data"), "validation_share": 3, "test_share": 0}
        data = workflow(BUNDLE, ["train.json"], "train", overrides | folders).parser.get_parsed_content("data")
        found = {Path(item["image"]).stem[0]: item["label"] for part in data.values() for item in part}
        assert found == {str(number): number % 2 for number in range(7)}

    # -------------------------------------------------------------------------------------------- evaluation

    def test_evaluation_measures_the_test_split(self, trained: Path, overrides: dict, tmp_path: Path) -> None:
        self.evaluate(overrides | {"threshold": 0.3}, trained, tmp_path / "evaluation")
        metrics = read_json(tmp_path / "evaluation" / "metrics.json")
        cases = rows(tmp_path / "evaluation" / "cases.csv")
        assert metrics["cases"] == len(cases) == 2 and metrics["threshold"] == 0.3
        score = np.array([float(row["probability_COVID-19"]) for row in cases])
        ill = np.array([row["true_class"] == "COVID-19" for row in cases])
        assert metrics["auc"] == pytest.approx(roc_auc(score, ill))
        assert metrics["sensitivity"] == np.mean(score[ill] >= 0.3)
        assert metrics["auc_low"] <= metrics["auc"] <= metrics["auc_high"]
        # the same cases through the exported network give the same probabilities
        network = network_from(read_json(trained / "model.json"))
        network.load_state_dict(torch.load(trained / "model.pt", weights_only=True))
        parser = workflow(BUNDLE, ["train.json"], "train", overrides | {"output_dir": str(tmp_path / "unused")}).parser
        prepare, data = parser.get_parsed_content("validate#preprocessing"), parser.get_parsed_content("data")
        for item, found in zip(data["test"], score, strict=True):
            with torch.no_grad():
                logits = network.eval()(prepare(item)["image"].as_tensor()[None])
            assert float(logits.softmax(1)[0, 1]) == pytest.approx(found, abs=1e-4)

    def test_inference_writes_probabilities_with_given_masks_and_without(
        self, trained: Path, overrides: dict, dataset: Path, tmp_path: Path
    ) -> None:
        chosen = self.inference_overrides(overrides, trained, tmp_path / "listed")
        chosen["lungs#minimum_volume"] = 0.5
        built = workflow(BUNDLE, ["inference.json"], "infer", chosen)
        built.run()
        for name, tensor in torch.load(trained / "model.pt", weights_only=True).items():
            assert torch.equal(built.network_def.state_dict()[name].cpu(), tensor)
        table = rows(tmp_path / "listed" / "probabilities.csv")
        assert [row["subject"] for row in table] == [f"subject {number}" for number in LISTS["training"]]
        for row in table:
            assert float(row["probability_no COVID-19"]) + float(row["probability_COVID-19"]) == pytest.approx(
                1, abs=1e-5
            )
        single = chosen | {"dataset_dir": str(dataset / "images" / "3.nii.gz"), "output_dir": str(tmp_path / "single")}
        workflow(BUNDLE, ["inference.json"], "infer", single).run()
        (row,) = rows(tmp_path / "single" / "probabilities.csv")
        assert row["subject"] == "3.nii.gz" and row["class"] in ("no COVID-19", "COVID-19")

    # --------------------------------------------------------------------------------------------- bad input

    @pytest.mark.parametrize("part", ["validation", "test"])
    def test_one_class_only_is_refused(
        self, part: str, trained: Path, overrides: dict, dataset: Path, tmp_path: Path
    ) -> None:
        copy = Path(shutil.copytree(dataset, tmp_path / "copy"))
        write_lists(copy, dict.fromkeys(LISTS[part], 0))
        overrides = overrides | {"dataset_dir": str(copy)}
        with pytest.raises((RuntimeError, ValueError)) as error:
            if part == "validation":
                self.train(overrides)
            else:
                self.evaluate(overrides, trained, tmp_path / "evaluation")
        wanted = f"{part}: 2 cases, {{'no COVID-19': 2, 'COVID-19': 0}}; the AUC needs cases of every class"
        assert wanted in chain(error.value)
        assert not (Path(overrides["output_dir"]) / "training.csv").exists()

    @pytest.mark.parametrize("fault", ["value", "mask grid", "empty mask", "no lungs"])
    def test_bad_cases_are_named_before_training(
        self, fault: str, overrides: dict, dataset: Path, tmp_path: Path
    ) -> None:
        copy = Path(shutil.copytree(dataset, tmp_path / "copy"))
        image, mask = copy / "images" / "1.nii.gz", copy / "masks" / "1.nii.gz"
        if fault == "value":
            write_lists(copy, {1: 3})
            names = [str(image), "label is 3", "'COVID-19': 1"]
        elif fault == "mask grid":
            nibabel.save(nibabel.Nifti1Image(np.ones((9, 9, 9), np.uint8), np.eye(4)), mask)
            names = [str(mask), str(image), "(9, 9, 9)", "(24, 22, 20)"]
        elif fault == "empty mask":
            loaded = nibabel.load(mask)
            nibabel.save(nibabel.Nifti1Image(np.zeros(loaded.shape, np.uint8), loaded.affine), mask)
            names = [str(mask), "0 ml of lung"]
        else:
            content = json.loads((copy / "dataset.json").read_text())
            for entry in content["training"]:
                entry.pop("mask")
            (copy / "dataset.json").write_text(json.dumps(content))
            soft = np.random.default_rng(0).normal(40, 10, (24, 22, 20)).astype(np.int16)
            nibabel.save(nibabel.Nifti1Image(soft, nibabel.load(image).affine), image)
            names = [str(image), "ml of lung, expected at least 0.5 ml"]
        with pytest.raises((RuntimeError, ValueError)) as error:
            self.train(overrides | {"dataset_dir": str(copy)})
        assert all(name in chain(error.value) for name in names), chain(error.value)
        assert not (Path(overrides["output_dir"]) / "training.csv").exists()

    # ---------------------------------------------------------------------------------------------- the lungs

    def test_lungs_fill_the_patch_and_nothing_of_them_is_lost(self, overrides: dict) -> None:
        parser = ConfigParser(read_config(BUNDLE, "train.json"))
        parser.update(overrides | {"patch_size": [24, 24, 24]})
        item = parser.get_parsed_content("data")["training"][0]
        prepared = parser.get_parsed_content("validate#preprocessing")(item)
        assert set(prepared) == {"image", "label", "subject"} and prepared["image"].shape == (1, 24, 24, 24)
        whole = nibabel.load(item["image"]).get_fdata()
        lungs = nibabel.load(item["mask"]).get_fdata() > 0
        darker = (np.asarray(prepared["image"]) < (-700 + 1024) / 2048) & (np.asarray(prepared["image"]) > 0.02)
        assert darker.sum() == (lungs & (whole < -700)).sum()

    def test_inference_and_training_prepare_a_case_alike(self, overrides: dict) -> None:
        images = []
        for name, place in (("train.json", "validate#preprocessing"), ("inference.json", "preprocessing")):
            parser = ConfigParser(read_config(BUNDLE, name))
            parser.update({key: overrides[key] for key in ("spacing", "patch_size", "dataset_dir", "bundle_root")})
            parser["lungs#minimum_volume"] = 0.5
            data = parser.get_parsed_content("data")
            item = (data["training"] if name == "train.json" else data)[0]
            images.append(parser.get_parsed_content(place)(item)["image"])
        assert torch.equal(*(image.as_tensor() for image in images))
        assert torch.equal(images[0].affine, images[1].affine)
