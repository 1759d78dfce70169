# SPDX-License-Identifier: Apache-2.0
"""gvsl_seg_brain keeps the promises of every segmentation bundle, and those of MR and of 28 structures."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from downstream import PRETRAIN, BundleTests, DownstreamTests, read_config
from monai.bundle import ConfigParser
from runs import ROOT, workflow
from segmentation import SegmentationTests

from custom.labels import BRAIN_LABELS


class SegBrain(SegmentationTests):
    bundle = ROOT / "bundles" / "gvsl_seg_brain"
    own: dict[str, Any] = {"labels": {"outer": 1, "inner": 2}, "accept_mismatch": []}
    shipped = {"background_values": [1]}


class TestSegBrain(SegBrain, BundleTests):
    def test_default_labels_are_stated_in_one_place(self) -> None:
        stated = read_config(self.bundle, "train.json")["labels"]["default"]
        assert list(stated.items()) == list(BRAIN_LABELS.items())
        assert len(BRAIN_LABELS) == 28
        channels = read_config(self.bundle, "metadata.json")["network_data_format"]["outputs"]["pred"]["channel_def"]
        assert list(channels.values()) == ["background", *BRAIN_LABELS]
        stated = read_config(self.bundle, "metadata.json")["label_classes"]
        assert all(f"{value} {name.replace('_', ' ')}" in stated for name, value in BRAIN_LABELS.items())

    def test_intensities_are_scaled_from_minimum_to_maximum(self) -> None:
        parser = ConfigParser(read_config(self.bundle, "train.json"))
        image = torch.rand(1, 5, 6, 7) * 900 - 50
        scaled = parser.get_parsed_content("intensity")({"image": image})["image"]
        assert torch.allclose(torch.as_tensor(scaled), (image - image.min()) / (image.max() - image.min()), atol=1e-6)

    def test_the_shipped_start_comes_from_another_scene(
        self, overrides: dict, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Weights of chest CT: accepted by name, with a warning that says both sides."""
        config = read_config(self.bundle, "train.json")
        assert config["accept_mismatch"] == "$['intensity'] if @pretrained_weights == @shipped_backbone else []"
        assert config["spacing"] == read_config(PRETRAIN, "train.json")["spacing"]
        chosen = {key: overrides[key] for key in ("bundle_root", "dataset_dir", "labels", "output_dir")}
        with caplog.at_level(logging.WARNING):
            built = workflow(self.bundle, ["train.json"], "train", chosen | {"num_workers": 0})
            built.parser.get_parsed_content("train#trainer")
        assert "backbone.pt is used although intensity: the weights" in caplog.text


@pytest.mark.slow
class TestSegBrainThoroughly(SegBrain, DownstreamTests):
    """What runs the same code as gvsl_seg_heart."""
