# SPDX-License-Identifier: Apache-2.0
"""What the configs of gvsl_seg_heart do otherwise under MONAI Label; tests/monai_label/ tries it on a real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import MapTransform

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "gvsl_seg_heart"
VALUES = [205, 420, 500, 550, 600, 820, 850]


@pytest.fixture(params=[False, True], ids=["run", "monai_label"])
def monai_label(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether this process looks like that of a MONAI Label server, which sets the variable for itself."""
    monkeypatch.delenv("MONAI_LABEL_APP_DIR", raising=False)
    if request.param:
        monkeypatch.setenv("MONAI_LABEL_APP_DIR", "apps/monaibundle")
    return request.param


def parser(name: str, **overrides: Any) -> ConfigParser:
    read = ConfigParser(ConfigParser.load_config_file(BUNDLE / "configs" / name))
    read.update({"bundle_root": str(BUNDLE), **overrides})
    return read


def test_label_maps_hold_numbers_of_structures(monai_label: bool) -> None:
    """As 3D Slicer reads and writes them, where the data set's values are refused."""
    numbers = list(range(1, 8))
    accepted, refused = (numbers, VALUES) if monai_label else (VALUES, numbers)
    encode = parser("train.json").get_parsed_content("encode_labels")
    maps = {name: torch.tensor(values).reshape(1, 7, 1, 1) for name, values in (("in", accepted), ("out", refused))}
    assert encode({"label": maps["in"]})["label"].flatten().tolist() == numbers
    with pytest.raises(ValueError, match=f"label values {refused[0]}"):
        encode({"label": maps["out"]})

    transforms = parser("inference.json").get_parsed_content("postprocessing").transforms
    decode = [step for step in transforms if type(step).__name__ == "DecodeLabelsd"]
    item: dict[str, Any] = {"pred": torch.tensor(numbers).reshape(1, 7, 1, 1)}
    for step in decode:
        assert isinstance(step, MapTransform)
        item = dict(step(item))
    assert item["pred"].flatten().tolist() == accepted


def test_the_model_is_published(monai_label: bool) -> None:
    handlers = parser("train.json")["train"]["handlers"]
    targets = [handler["_target_"].rpartition(".")[2] for handler in handlers]
    assert targets.index("PublishModel") > targets.index("BestModelExport")  # which writes what is published
    place = f"train#handlers#{targets.index('PublishModel')}#_disabled_"
    assert parser("train.json").get_parsed_content(place) is not monai_label


@pytest.mark.parametrize("name", ["train.json", "inference.json"])
def test_a_device_may_be_a_name(name: str) -> None:
    """MONAI Label, and whoever types --device, give a string."""
    assert parser(name, device="cpu").get_parsed_content("amp") is False
    assert parser(name, device="cuda:0").get_parsed_content("amp") is True


def test_the_schedule_ends_with_the_epochs_that_the_trainer_has() -> None:
    """MONAI Label sets those of the trainer."""
    read = parser("train.json", **{"train#trainer#max_epochs": 2, "iterations_per_epoch": 5, "device": "cpu"})
    assert read.get_parsed_content("lr_scheduler").t_total == 10
