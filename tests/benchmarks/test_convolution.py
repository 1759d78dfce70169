# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the convolution times torch's and ours, and leaves ours in place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import convolution
from custom.layers.convolution import is_slow


def test_both_convolutions_are_timed_on_the_same_backbone(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(convolution.BACKBONES, "tiny", {"channels": (8, 16), "shape": (8, 8, 8)})
    convolution.main(repeats=2, backbones="tiny", output=str(tmp_path / "r.json"))
    result = json.loads((tmp_path / "r.json").read_text())
    for name in ("forward", "forward and backward"):
        seconds = result["tiny"][name]
        assert (
            seconds["torch"]["median"] > 0 and seconds["ours"]["median"] > 0 and seconds["torch / ours"]["median"] > 0
        )
    assert is_slow(torch.empty(1, 1, 4, 4, 4))


def test_the_calls_that_count_as_torch_are_torchs_own(monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(convolution, "processor_seconds", lambda function: seen.append(function()) or 1.0)
    empty = torch.empty(1, 1, 4, 4, 4)
    assert convolution.in_turn(lambda: convolution.convolution.is_slow(empty), 2)["torch / ours"]["median"] == 1.0
    assert seen == [False, True] * 3


@pytest.mark.parametrize("backbones", ["heart,huge", ("heart", "huge")])  # fire reads a list with commas as a tuple
def test_an_unknown_backbone_is_refused(backbones) -> None:
    with pytest.raises(ValueError, match="backbones names 'huge', expected of"):
        convolution.main(backbones=backbones)
