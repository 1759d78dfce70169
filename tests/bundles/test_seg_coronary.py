# SPDX-License-Identifier: Apache-2.0
"""gvsl_seg_coronary keeps the promises of every segmentation bundle, and those of vessels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from downstream import BundleTests, DownstreamTests, read_config
from monai.losses import SoftDiceclDiceLoss
from runs import ROOT, rows, workflow
from segmentation import SegmentationTests

from custom.files import read_json
from custom.phantoms import CORONARY_LABELS


class SegCoronary(SegmentationTests):
    bundle = ROOT / "bundles" / "gvsl_seg_coronary"
    own: dict[str, Any] = {"labels": {"outer": 1, "inner": 2}, "accept_mismatch": []}
    shipped = {"background_values": [2]}
    own_words = frozenset({"additional_metrics"})


class TestSegCoronary(SegCoronary, BundleTests):
    def test_default_labels_are_those_of_the_data_set(self) -> None:
        labels = read_config(self.bundle, "train.json")["labels"]["default"]
        assert labels == CORONARY_LABELS == {"coronary_arteries": 1}
        channels = read_config(self.bundle, "metadata.json")["network_data_format"]["outputs"]["pred"]["channel_def"]
        assert list(channels.values()) == ["background", *CORONARY_LABELS]

    def test_the_centre_line_is_measured_in_validation_and_evaluation(
        self, trained: Path, overrides: dict, tmp_path: Path
    ) -> None:
        values = [float(row["centre_line_dice"]) for row in rows(trained / "validation.csv")]
        assert len(values) == 2 and all(0 <= value <= 1 for value in values)
        assert "centre_line_dice" in read_json(trained / "model.json")["metrics"]
        self.evaluate(overrides, trained, tmp_path / "evaluation")
        cases = rows(tmp_path / "evaluation" / "cases.csv")
        metrics = read_json(tmp_path / "evaluation" / "metrics.json")["centre_line_dice"]
        mean = np.mean([float(row["centre_line_dice_outer"]) for row in cases])
        assert metrics["outer"]["mean"] == pytest.approx(mean, abs=1e-5) and "overall" in metrics

    def test_crops_prefer_the_foreground(self, overrides: dict, dataset: Path, tmp_path: Path) -> None:
        """Of crops that are much smaller than the volume three in four hold a vessel at their centre."""
        chosen = overrides | {"patch_size": [4, 4, 4], "channels": [8, 16], "samples_per_epoch": 60}
        parser = workflow(self.bundle, ["train.json"], "train", chosen).parser
        parser["train#random_transform#transforms"] = parser["train#random_transform#transforms"][:1]
        crops = [sample["label"][0] for sample in parser.get_parsed_content("train#dataset")]
        assert all(crop.shape == (4, 4, 4) for crop in crops)
        assert 0.6 < np.mean([float(crop[2, 2, 2] > 0) for crop in crops]) < 0.9

    def test_centre_lines_may_be_learnt_as_well(self, overrides: dict) -> None:
        loss = workflow(self.bundle, ["train.json", "cldice.json"], "train", overrides).parser.get_parsed_content(
            "loss"
        )
        assert isinstance(loss, SoftDiceclDiceLoss)
        label = torch.zeros(1, 1, 12, 12, 12)
        label[..., 5:7, 5:7, :] = 1
        cut = label.clone()
        cut[..., 4:8] = 0
        logits = [20 * torch.cat([1 - mask, mask], dim=1) - 10 for mask in (label, cut)]
        assert loss(logits[0], label) < 0.05 < loss(logits[1], label)
        output = self.train(overrides | {"max_epochs": 1}, "cldice.json")
        assert len(rows(output / "training.csv")) == 2


@pytest.mark.slow
class TestSegCoronaryThoroughly(SegCoronary, DownstreamTests):
    """What runs the same code as gvsl_seg_heart."""
