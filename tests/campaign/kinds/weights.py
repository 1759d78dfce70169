# SPDX-License-Identifier: Apache-2.0
"""Weights and their descriptions that are damaged, dangerous, or were trained for something else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from custom.files import read_json, sha256
from custom.labels import CARDIAC_LABELS
from custom.networks import UNet3D
from custom.weights import save_weights

from .kind import BUNDLES, Kind, evaluation, inference, kind, registration, training
from .nifti import UNREADABLE
from .volumes import cut, volumes

HEART, CORONARY, BRAIN, COVID = "gvsl_seg_heart", "gvsl_seg_coronary", "gvsl_seg_brain", "gvsl_covid_cls"
NETWORK = {"_target_": "custom.networks.UNet3D", "in_channels": 1, "channels": [8, 16]}


def tiny_weights(folder: Path, bundle: str = HEART) -> Path:
    """Pre-trained weights of a tiny backbone that fit a bundle."""
    config = read_json(BUNDLES / bundle / "configs" / "train.json")
    preprocessing = {"spacing": config["spacing"], "orientation": "RAS"}
    description = {"pretext_task": "gvsl", "iterations": 1, "network": NETWORK, "intensity": config["intensity"]}
    state = UNet3D(1, NETWORK["channels"]).state_dict()
    save_weights(folder, {"model.pt": ("backbone", state)}, description | {"preprocessing": preprocessing})
    return folder


def finetuned(bundle: str, spoil: Callable[[Path], Any], **named: Any) -> Callable[[Path], list[str]]:
    """Fine-tuning from tiny weights in folder/weights that `spoil` has changed; the user names values of the config."""

    def make(folder: Path) -> list[str]:
        volumes(folder / "data", labelled=True)
        spoil(tiny_weights(folder / "weights", bundle))
        named.setdefault("channels", NETWORK["channels"])
        return training(bundle, folder, pretrained_weights=folder / "weights", **named)

    return make


def shipped(
    bundle: str, spoil: Callable[[Path], Any], config: str = "inference", **named: Any
) -> Callable[[Path], list[str]]:
    """Inference, evaluation or registration with a changed copy of the shipped weights in folder/weights."""

    def make(folder: Path) -> list[str]:
        volumes(folder / "data", labelled=config == "evaluate")
        shutil.copytree(BUNDLES / bundle / "models", folder / "weights")
        spoil(folder / "weights")
        if config == "register":
            return registration(folder, model_dir=folder / "weights", **named)
        run = inference if config == "inference" else evaluation
        return run(bundle, folder, model_dir=folder / "weights", **named)

    return make


def described(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Changes model.json; what `change` returns, if anything, replaces it."""

    def spoil(folder: Path) -> None:
        content = read_json(folder / "model.json")
        replaced = change(content)
        (folder / "model.json").write_text(json.dumps(content if replaced is None else replaced))

    return spoil


def content(make: Callable[[dict[str, torch.Tensor]], Any], honest: bool = True) -> Callable[[Path], None]:
    """Replaces what model.pt holds; `honest` puts the new hash into model.json."""

    def spoil(folder: Path) -> None:
        state = torch.load(folder / "model.pt", weights_only=True)
        torch.save(make(state), folder / "model.pt")
        if honest:
            rehash(folder)

    return spoil


def rehash(folder: Path) -> None:
    def change(description: dict[str, Any]) -> None:
        description["files"]["model.pt"]["sha256"] = sha256(folder / "model.pt")

    described(change)(folder)


def bytes_of(make: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Damages model.pt and puts the new hash into model.json."""

    def spoil(folder: Path) -> None:
        make(folder / "model.pt")
        rehash(folder)

    return spoil


class Code:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch PWNED",)


def fill(value: float) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Weights in which every number of the first tensor has this value."""

    def make(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        name = next(iter(state))
        return state | {name: torch.full_like(state[name], value)}

    return make


def without_first(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return dict(list(state.items())[1:])


def unlink(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def put(*keys: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Sets an entry of model.json."""

    def change(description: dict[str, Any]) -> None:
        for key in keys[:-1]:
            description = description[key]
        description[keys[-1]] = value

    return change


def other_bundle(folder: Path) -> list[str]:
    volumes(folder / "data", 1)
    return inference(HEART, folder, model_dir=BUNDLES / COVID / "models")


def finetune_with(bundle: str, weights: Any) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        volumes(folder / "data", labelled=True)
        return training(bundle, folder, pretrained_weights=weights)

    return make


CODE = "$__import__('os').system('touch PWNED')"
KINDS: list[Kind] = [
    kind("no such weights", finetune_with(HEART, "absent"), "absent", "exist"),
    kind("no such weights, brain", finetune_with(BRAIN, "absent/model.pt"), "absent", "exist"),
    kind("number as weights", finetune_with(CORONARY, 7), "pretrained_weights", "path"),
    kind("empty folder of weights", shipped(HEART, lambda folder: [p.unlink() for p in folder.iterdir()]), "exist"),
    kind("no model.json", finetuned(HEART, unlink("model.json")), r"model\.json", "exist"),
    kind("no model.pt", finetuned(CORONARY, unlink("model.pt")), r"model\.pt", "exist"),
    kind("no heads to register with", shipped("gvsl_pretrain", unlink("heads.pt"), "register"), r"heads\.pt", "exist"),
    kind("no model.json to evaluate", shipped(BRAIN, unlink("model.json"), "evaluate"), r"model\.json", "exist"),
    kind(
        "model.json is no JSON", finetuned(BRAIN, lambda f: (f / "model.json").write_text("{")), r"model\.json", "JSON"
    ),
    kind("model.json is a list", finetuned(HEART, described(lambda d: [d])), r"model\.json", "list"),
    kind(
        "model.json is null", shipped(COVID, lambda f: (f / "model.json").write_text("null")), r"model\.json", "object"
    ),
    kind(
        "model.json without files",
        finetuned(CORONARY, described(lambda d: {"network": NETWORK})),
        r"model\.json",
        r"files|sha256|model\.pt",
    ),
    kind(
        "model.json without sha256",
        finetuned(HEART, described(lambda d: d["files"]["model.pt"].pop("sha256") and None)),
        r"model\.json",
        "sha256",
    ),
    kind(
        "files of model.json are a list", finetuned(BRAIN, described(put("files", value=[]))), r"model\.json", "files"
    ),
    kind(
        "another hash",
        finetuned(HEART, described(put("files", "model.pt", "sha256", value="0" * 64))),
        r"model\.pt",
        "sha-?256|hash",
    ),
    kind(
        "another hash, inference",
        shipped(CORONARY, described(put("files", "model.pt", "sha256", value="0" * 64))),
        r"model\.pt",
        "sha-?256|hash",
    ),
    kind("changed tensors under the old hash", shipped(COVID, content(fill(0.5), honest=False)), "sha-?256|hash"),
    kind("truncated weights", finetuned(HEART, bytes_of(cut)), r"model\.pt", UNREADABLE + "|not"),
    kind("empty weights", finetuned(BRAIN, bytes_of(lambda path: path.write_bytes(b""))), r"model\.pt"),
    kind("text as weights", shipped(HEART, bytes_of(lambda path: path.write_text("weights"))), r"model\.pt"),
    kind("list as weights", finetuned(CORONARY, content(lambda state: list(state.values()))), r"model\.pt", "list"),
    kind("one tensor as weights", finetuned(HEART, content(lambda state: torch.zeros(3))), r"model\.pt", "Tensor"),
    kind(
        "numbers as weights", finetuned(BRAIN, content(lambda state: dict.fromkeys(state, 1.0))), r"model\.pt", "float"
    ),
    kind("code in weights", finetuned(HEART, content(lambda state: {"a": Code()})), r"model\.pt"),
    kind("NaN weights", finetuned(HEART, content(fill(float("nan")))), r"model\.pt|weights", "NaN|finite"),
    kind("NaN weights, inference", shipped(CORONARY, content(fill(float("nan")))), r"model\.pt|weights", "NaN|finite"),
    kind("infinite weights, features", shipped("gvsl_pretrain", content(fill(float("inf")))), r"weights", "inf|finite"),
    kind("a tensor is missing", finetuned(CORONARY, content(without_first)), "weights", "missing|lacks|keys"),
    kind(
        "a tensor too many",
        shipped(COVID, content(lambda state: state | {"more.weight": torch.zeros(1)})),
        r"more\.weight",
    ),
    kind(
        "a tensor of another shape",
        shipped(BRAIN, content(lambda s: {n: t[..., :1] for n, t in s.items()})),
        "shape|size",
    ),
    kind(
        "weights of another spacing",
        finetuned(HEART, described(put("preprocessing", "spacing", value=[9, 9, 9])), spacing=[3.5, 3.5, 3.5]),
        "spacing",
        r"9\.0",
    ),
    kind(
        "weights of another orientation",
        finetuned(BRAIN, described(put("preprocessing", "orientation", value="LPS")), orientation="RAS"),
        "orientation",
        "LPS",
    ),
    kind(
        "weights of another window",
        finetuned(CORONARY, described(put("intensity", "a_max", value=77)), intensity__a_max=1024),
        "intensity",
        "77",
    ),
    kind(
        "weights of another network", finetuned(BRAIN, described(put("network", "channels", value=[8, 32]))), "network"
    ),
    kind(
        "weights of another spacing to evaluate",
        shipped(HEART, described(put("preprocessing", "spacing", value=[9, 9, 9])), "evaluate", spacing=[2, 2, 2]),
        "spacing",
    ),
    kind(
        "weights of another spacing to register",
        shipped(
            "gvsl_pretrain", described(put("preprocessing", "spacing", value=[9, 9, 9])), "register", spacing=[2] * 3
        ),
        "spacing",
    ),
    kind(
        "weights of another window for features",
        shipped("gvsl_pretrain", described(put("intensity", "a_max", value=77)), intensity__a_max=1024),
        "intensity",
        "77",
    ),
    kind("weights of another bundle", other_bundle, "labels|network"),
    kind(
        "structures in another order",
        shipped(HEART, described(lambda d: d), labels=dict(reversed(CARDIAC_LABELS.items()))),
        "labels",
    ),
    kind(
        "spacing of weights is no spacing",
        finetuned(HEART, described(put("preprocessing", "spacing", value="fine"))),
        r"model\.json",
        "spacing is 'fine', expected three numbers",
    ),
    kind("preprocessing of weights is a list", shipped(BRAIN, described(put("preprocessing", value=[1]))), "object"),
    kind("code as network of model.json", finetuned(HEART, described(put("network", value=CODE))), "network"),
    kind(
        "code as argument of the network", shipped(HEART, described(put("network", "channels", value=CODE))), "network"
    ),
    kind(
        "another class as network",
        finetuned(CORONARY, described(put("network", "_target_", value="os.system"))),
        "network",
        r"os\.system",
    ),
    kind(
        "pre-trained weights as those of a task",
        lambda folder: (
            volumes(folder / "data", 1),
            inference(HEART, folder, model_dir=BUNDLES / "gvsl_pretrain" / "models"),
        )[1],
        "network|tensors|label",
    ),
    kind(
        "weights of a task to register with",
        lambda folder: (volumes(folder / "data", 2), registration(folder, model_dir=BUNDLES / HEART / "models"))[1],
        r"heads\.pt|network",
    ),
]
