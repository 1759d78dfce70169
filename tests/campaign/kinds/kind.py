# SPDX-License-Identifier: Apache-2.0
"""A row of the table, and the commands that the rows give bad input to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
BUNDLES = ROOT / "bundles"
SPACING = [6.0, 6.0, 6.0]  # mm, of the volumes in `volumes`
PATCH = [16, 16, 16]


@dataclass(frozen=True)
class Kind:
    """
    One kind of bad input.

    Attributes:
        name: what is wrong, in words.
        make: writes the input into an empty folder and returns the command line after `python`.
        words: regular expressions; the end of the screen must have a match of each, whatever the case.
    """

    name: str
    make: Callable[[Path], list[str]]
    words: tuple[str, ...]


def kind(name: str, make: Callable[[Path], list[str]], *words: str) -> Kind:
    """A `Kind`; every expression of `words` must match."""
    return Kind(name, make, words)


def command(bundle: str, files: str, **overrides: Any) -> list[str]:
    """
    `python -m monai.bundle run` of a bundle.

    Args:
        bundle: name below bundles/.
        files: names below its configs/ without .json, separated by blanks; a path with .json is taken as it is.
        overrides: key -> value; `__` in a key stands for `#`.
    """
    paths = [
        name if name.endswith(".json") else str(BUNDLES / bundle / "configs" / f"{name}.json") for name in files.split()
    ]
    chosen = {name.replace("__", "#"): value for name, value in overrides.items()}
    arguments = [part for name, value in chosen.items() for part in (f"--{name}", text(value))]
    return ["-m", "monai.bundle", "run", "--config_file", str(paths), *arguments]


def text(value: Any) -> str:
    """A value as a user types it: JSON for lists and objects."""
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def training(bundle: str, folder: Path, files: str = "train", **overrides: Any) -> list[str]:
    """A tiny training run of a bundle on folder/data that writes to folder/output."""
    own: dict[str, Any] = (
        {"validation_pairs": 1} if bundle == "gvsl_pretrain" else {"validation_share": 1, "test_share": 1}
    )
    if bundle != "gvsl_pretrain":
        own |= {"pretrained_weights": "None"} if "channels" in overrides else {}
    if bundle.startswith("gvsl_seg") and "evaluate" not in files:  # which has the structures of the shipped weights
        own["labels"] = {"one": 1, "two": 2}
    tiny = {"max_epochs": 1, "iterations_per_epoch": 1, "val_interval": 1, "num_workers": 0, "figures": False}
    places = {"dataset_dir": folder / "data", "output_dir": folder / "output", "patch_size": PATCH}
    return command(bundle, files, **{**places, **tiny, **own, **overrides})


def pretraining(folder: Path, **overrides: Any) -> list[str]:
    """`training` of gvsl_pretrain."""
    return training("gvsl_pretrain", folder, **overrides)


def inference(bundle: str, folder: Path, **overrides: Any) -> list[str]:
    """Inference with the shipped weights on folder/data that writes to folder/output."""
    places = {"dataset_dir": folder / "data", "output_dir": folder / "output", "patch_size": PATCH}
    return command(bundle, "inference", **{**places, **overrides})


def evaluation(bundle: str, folder: Path, **overrides: Any) -> list[str]:
    """Evaluation of the shipped weights on folder/data."""
    return training(bundle, folder, "train evaluate", **overrides)


def registration(folder: Path, **overrides: Any) -> list[str]:
    """Registration of folder/data/0.nii.gz to folder/data/1.nii.gz with the shipped weights, to folder/output."""
    data = folder / "data"
    pair = {"moving": data / "0.nii.gz", "fixed": data / "1.nii.gz", "max_size": 16}
    return command("gvsl_pretrain", "register", output_dir=folder / "output", **{**pair, **overrides})


def tool(module: str, *arguments: Any) -> list[str]:
    """`python -m MODULE arguments`."""
    return ["-m", module, *map(str, arguments)]
