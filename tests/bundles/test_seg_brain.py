# SPDX-License-Identifier: Apache-2.0
"""gvsl_seg_brain keeps the promises of every segmentation bundle, and those of MR and of 28 structures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from downstream import PRETRAIN, BundleTests, DownstreamTests, read_config
from monai.bundle import ConfigParser
from runs import ROOT
from segmentation import SegmentationTests

from custom.labels import BRAIN_LABELS


class SegBrain(SegmentationTests):
    bundle = ROOT / "bundles" / "gvsl_seg_brain"
    parts: list[str] = []
    own: dict[str, Any] = {"labels": {"outer": 1, "inner": 2}}
    shipped = {"background_values": [1]}
    pretrained = PRETRAIN / "models" / "brain"


class TestSegBrain(SegBrain, BundleTests):
    def test_default_labels_are_stated_in_one_place(self) -> None:
        stated = read_config(self.bundle, "train.json")["labels"]["default"]
        assert list(stated.items()) == list(BRAIN_LABELS.items())
        assert len(BRAIN_LABELS) == 28
        channels = read_config(self.bundle, "metadata.json")["network_data_format"]["outputs"]["pred"]["channel_def"]
        assert list(channels.values()) == ["background", *BRAIN_LABELS]
        stated = read_config(self.bundle, "metadata.json")["label_classes"]
        assert all(f"{value} {name.replace('_', ' ')}" in stated for name, value in BRAIN_LABELS.items())

    def test_intensities_are_scaled_by_percentiles(self) -> None:
        """One bright voxel, as blood vessels have, changes nothing."""
        parser = ConfigParser(read_config(self.bundle, "train.json"))
        image = torch.linspace(-50, 850, 9 * 10 * 11).reshape(1, 9, 10, 11)
        bright = image.clone()
        bright[0, -1, -1, -1] = 9000
        scaled, same = (parser.get_parsed_content("intensity")({"image": each})["image"] for each in (image, bright))
        assert torch.allclose(torch.as_tensor(scaled), torch.as_tensor(same), atol=1e-6)
        assert scaled.min() == 0 and scaled.max() == 1 and abs(float(scaled.mean()) - 0.5) < 1e-3


@pytest.mark.slow
class TestSegBrainThoroughly(SegBrain, DownstreamTests):
    """What runs the same code as gvsl_seg_heart."""

    def test_two_processes_train_like_one_with_the_doubled_batch(
        self, overrides: dict[str, Any], tmp_path: Path
    ) -> None:
        """Without class weights: with them the cross-entropy is divided by the weights of each process's own batch."""
        loss = {"_target_": "DiceCELoss", "to_onehot_y": True, "softmax": True}
        super().test_two_processes_train_like_one_with_the_doubled_batch(overrides | {"loss": loss}, tmp_path)
