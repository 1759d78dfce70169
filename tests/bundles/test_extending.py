# SPDX-License-Identifier: Apache-2.0
"""What docs/extending.md promises, with its very code: an own pretext task, a residual and a transformer backbone."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from runs import ROOT, rows, workflow

from custom.files import read_json
from custom.weights import read_weights

PAGE = (ROOT / "docs" / "extending.md").read_text()
MODULE = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL).group(1)
DEBLURRING, RESIDUAL, TRANSFORMER = (json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
PRETRAIN, HEART = ROOT / "bundles" / "gvsl_pretrain", ROOT / "bundles" / "gvsl_seg_heart"


def write(path: Path, content: dict) -> str:
    path.write_text(json.dumps(content))
    return str(path)


def test_an_own_pretext_task(tiny_overrides: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deblurring.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    text = json.dumps(DEBLURRING).replace("custom.pretext.deblurring", "deblurring")
    overlay = write(tmp_path / "overlay.json", json.loads(text))
    schedule = {"max_epochs": 4, "iterations_per_epoch": 5, "val_interval": 4, "warmup_iterations": 2}
    output = tmp_path / "output"
    built = workflow(
        PRETRAIN, ["train.json", overlay], "train", tiny_overrides | schedule | {"output_dir": str(output)}
    )
    built.run()
    sys.modules.pop("deblurring")
    losses = torch.tensor([float(row["loss"]) for row in rows(output / "training.csv")])
    assert losses[-5:].mean() < 0.7 * losses[:5].mean()
    assert float(rows(output / "validation.csv")[-1]["effective_rank_local"]) > 1.5
    assert read_json(output / "model.json")["pretext_task"] == "deblurring"


@pytest.mark.parametrize("overlay", [RESIDUAL, TRANSFORMER], ids=["residual", "transformer"])
def test_an_own_backbone(overlay: dict, tiny_overrides: dict, tmp_path: Path) -> None:
    shared = {name: value for name, value in tiny_overrides.items() if name != "channels"}
    patch_size = [16, 16, 16] if overlay is RESIDUAL else [64, 32, 32]  # instance norm wants two cells
    output = tmp_path / "output"
    overrides = shared | {"output_dir": str(output), "patch_size": patch_size, "max_epochs": 1}
    workflow(PRETRAIN, ["train.json", write(tmp_path / "own.json", overlay)], "train", overrides).run()
    description = read_json(output / "model.json")
    assert description["network"]["network"]["_target_"] == overlay["network_def"]["network"]["_target_"]
    assert all(float(value) == float(value) for value in rows(output / "training.csv")[-1].values())

    downstream = {name: value for name, value in overlay.items() if name not in ("network_def", "patch_size")}
    own = write(tmp_path / "backbone.json", downstream | {"backbone": overlay["network_def"]})
    chosen = {
        "bundle_root": str(HEART),
        "dataset_dir": tiny_overrides["dataset_dir"],
        "labels": {"outer": 1, "inner": 2},
        "output_dir": str(tmp_path / "heart"),
        "pretrained_weights": str(output),
        "spacing": [1.0, 1.0, 1.0],
        "patch_size": patch_size,
        "validation_share": 1,
        "test_share": 1,
        "max_epochs": 1,
        "iterations_per_epoch": 1,
        "num_workers": 0,
    }
    built = workflow(HEART, ["train.json", "linear.json", own], "train", chosen)
    built.run()
    expected = read_weights(output)[0]
    trained = built.parser.get_parsed_content("backbone").state_dict()
    assert trained.keys() == expected.keys()
    assert all(torch.equal(trained[name], expected[name]) for name in expected)  # frozen
