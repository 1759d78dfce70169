# SPDX-License-Identifier: Apache-2.0
"""The code of docs/extending.md as it stands: a pretext task, two backbones, a data set with its bundle, a handler."""

from __future__ import annotations

import json
import re
import shutil
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
from runs import ROOT, rows, workflow

from custom.files import read_json
from custom.weights import read_weights

PAGE = (ROOT / "docs" / "extending.md").read_text()
MODULE, PREPARATION, HANDLER = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
DEBLURRING, RESIDUAL, TRANSFORMER, KIDNEY, TIME_LIMIT = (
    json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
)
PRETRAIN, HEART = ROOT / "bundles" / "gvsl_pretrain", ROOT / "bundles" / "gvsl_seg_heart"


def write(path: Path, content: dict) -> str:
    path.write_text(json.dumps(content))
    return str(path)


def module(name: str, code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Imports code of the page as a module beside the package."""
    (folder / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return import_module(name)


def test_an_own_pretext_task(tiny_overrides: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module("deblurring", MODULE, tmp_path, monkeypatch)
    text = json.dumps(DEBLURRING).replace("custom.pretext.deblurring", "deblurring")
    overlay = write(tmp_path / "overlay.json", json.loads(text))
    schedule = {"max_epochs": 4, "iterations_per_epoch": 5, "val_interval": 4, "warmup_iterations": 2}
    output = tmp_path / "output"
    built = workflow(
        PRETRAIN, ["train.json", overlay], "train", tiny_overrides | schedule | {"output_dir": str(output)}
    )
    built.run()
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


def test_a_data_set_and_its_bundle(tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for subject in range(5):
        case = tmp_path / "kits19" / f"case_{subject:05}"
        case.mkdir(parents=True)
        shutil.copy(tiny_dataset / "images" / f"{subject}.nii.gz", case / "imaging.nii.gz")
        shutil.copy(tiny_dataset / "labels" / f"{subject}.nii.gz", case / "segmentation.nii.gz")
    module("kits", PREPARATION, tmp_path, monkeypatch).prepare_kits(tmp_path / "kits19")
    overlay = write(tmp_path / "kidney.json", KIDNEY)
    assert Path(KIDNEY["pretrained_weights"]) == (HEART / "models" / "backbone.pt").relative_to(ROOT)
    chosen = {
        "bundle_root": str(tmp_path / "gvsl_seg_kidney"),
        "dataset_dir": str(tmp_path / "kits19"),
        "pretrained_weights": str(ROOT / KIDNEY["pretrained_weights"]),
        "patch_size": [16, 16, 16],
        "max_epochs": 1,
        "iterations_per_epoch": 1,
        "val_interval": 1,
        "num_workers": 0,
        "figures": False,
    }
    workflow(HEART, ["train.json", overlay], "train", chosen).run()
    output = tmp_path / "gvsl_seg_kidney" / "output"
    assert read_json(output / "model.json")["labels"] == {"kidney": 1, "tumor": 2}
    evaluated = {name: value for name, value in chosen.items() if name != "pretrained_weights"}
    workflow(HEART, ["train.json", overlay, "evaluate.json"], "train", evaluated | {"model_dir": str(output)}).run()
    cases = rows(tmp_path / "gvsl_seg_kidney" / "evaluation" / "cases.csv")
    assert len(cases) == 1 and {"dice_kidney", "dice_tumor"} <= set(cases[0])


def test_a_handler(overrides: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module("time_limit", HANDLER, tmp_path, monkeypatch)
    text = json.dumps(TIME_LIMIT).replace("custom.handlers.time_limit", "time_limit")
    short = write(tmp_path / "short.json", json.loads(text.replace("36000", "0")))
    workflow(PRETRAIN, ["train.json", short], "train", overrides).run()
    output = Path(overrides["output_dir"])
    assert len(rows(output / "training.csv")) == 2 and (output / "checkpoints" / "checkpoint_2.pt").is_file()
    overlay = write(tmp_path / "time_limit.json", json.loads(text))
    workflow(PRETRAIN, ["train.json", overlay], "train", overrides | {"resume": True}).run()
    assert len(rows(output / "training.csv")) == 4


def test_the_order_of_the_handlers_is_that_of_the_page() -> None:
    table = re.search(r"\| handlers, first to last.*?\n\n", PAGE, re.DOTALL).group()
    groups = [re.findall(r"`(\w+)`", line.split("|")[1]) for line in table.strip().splitlines()[2:]]
    position = {name: index for index, group in enumerate(groups) for name in group}
    for configs in sorted((ROOT / "bundles").glob("*/configs/train.json")):
        handlers = [block["_target_"].rsplit(".", 1)[-1] for block in read_json(configs)["train"]["handlers"]]
        order = [position[name] for name in handlers if name in position]
        assert order == sorted(order) and len(order) >= 9, configs
