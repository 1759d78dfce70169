# SPDX-License-Identifier: Apache-2.0
"""Resuming, caches and output folders: what an earlier run left does not fit, is damaged or cannot be replaced."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from monai.bundle import ConfigWorkflow

from .kind import BUNDLES, Kind, evaluation, inference, kind, pretraining, registration, training
from .volumes import body, nifti, volumes

HEART = "gvsl_seg_heart"
SMALL = {"channels": [8, 16], "spacing": [6.0, 6.0, 6.0], "num_workers": 0, "validation_pairs": 1, "figures": False}
SHORT = {"max_epochs": 2, "iterations_per_epoch": 1, "val_interval": 1, "patch_size": [16, 16, 16]}


@cache
def finished() -> Path:
    """A folder with data/ and the output/ of a pre-training run of two epochs, made once."""
    folder = Path(tempfile.mkdtemp(prefix="campaign_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    places = {"dataset_dir": str(volumes(folder / "data")), "output_dir": str(folder / "output")}
    places |= {"bundle_root": str(BUNDLES / "gvsl_pretrain"), "cache_dir": str(folder / "cache")}
    configs = BUNDLES / "gvsl_pretrain" / "configs"
    run = ConfigWorkflow(
        str(configs / "train.json"),
        str(configs / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        **SMALL | SHORT | places,
    )
    run.initialize()
    run.run()
    return folder


def resumed(spoil: Callable[[Path], Any] = lambda folder: None, **overrides: Any) -> Callable[[Path], list[str]]:
    """Resuming a copy of the finished run in `folder` after `spoil(folder)`."""

    def make(folder: Path) -> list[str]:
        shutil.copytree(finished(), folder, dirs_exist_ok=True)
        spoil(folder)
        chosen = SMALL | SHORT | {"max_epochs": 3, "resume": True, "cache_dir": folder / "cache"}
        return pretraining(folder, **chosen | overrides)

    return make


def in_checkpoints(write: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Writes over both checkpoints."""

    def spoil(folder: Path) -> None:
        for path in (folder / "output" / "checkpoints").glob("*.pt"):
            write(path)

    return spoil


def table(text: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / "output" / "training.csv").write_text(text)


def other_data(folder: Path) -> None:
    for number in range(4):
        nifti(folder / "data" / f"{number + 10}.nii.gz", body(number))


def occupied(command: Callable[[Path], list[str]]) -> Callable[[Path], list[str]]:
    """A command whose output folder is a file."""

    def make(folder: Path) -> list[str]:
        (folder / "output").write_text("a file")
        return command(folder)

    return make


def unwritable(bundle: str, config: str) -> Callable[[Path], list[str]]:
    """A command whose output folder cannot be made, not even by root."""

    def make(folder: Path) -> list[str]:
        volumes(folder / "data", labelled=config != "inference" and bundle != "gvsl_pretrain")
        where = {"output_dir": "/proc/campaign"}
        return (
            inference(bundle, folder, **where) if config == "inference" else training(bundle, folder, config, **where)
        )

    return make


_locked: list[FileLock] = []  # a lock is released when nothing refers to it


def in_use(folder: Path) -> list[str]:
    """A second run in the output folder of a run that this process stands for."""
    volumes(folder / "data")
    (folder / "output").mkdir()
    lock = FileLock(folder / "output" / ".running.lock")
    lock.acquire()
    _locked.append(lock)
    return pretraining(folder)


def cache_is_file(folder: Path) -> list[str]:
    volumes(folder / "data")
    (folder / "cache").write_text("a file")
    return pretraining(folder, cache_dir=folder / "cache")


def labelled(command: Callable[..., list[str]], *arguments: Any) -> Callable[[Path], list[str]]:
    """A command on labelled volumes."""
    return lambda folder: (volumes(folder / "data", labelled=True), command(*arguments, folder))[1]


GARBAGE = in_checkpoints(lambda path: path.write_bytes(b"garbage" * 99))
KINDS: list[Kind] = [
    kind("both checkpoints are garbage", resumed(GARBAGE), "checkpoint_[12]", "none|read"),
    kind("both checkpoints are empty", resumed(in_checkpoints(lambda path: path.write_bytes(b""))), "checkpoint_[12]"),
    kind("both checkpoints are lists", resumed(in_checkpoints(lambda path: torch.save([1], path))), "checkpoint_[12]"),
    kind(
        "both checkpoints lack the network",
        resumed(in_checkpoints(lambda path: torch.save({"a": 1}, path))),
        "checkpoint_[12]",
    ),
    kind("resumed with another network", resumed(channels=[8, 32]), "channels|network"),
    kind("resumed with another spacing", resumed(spacing=[3.0, 3.0, 3.0]), "spacing"),
    kind("resumed with another patch size", resumed(patch_size=[16, 16, 32]), "patch_size"),
    kind("resumed with another window", resumed(intensity__a_max=2000), "a_max|intensity", "2000"),
    kind("resumed with another batch size", resumed(batch_size=2), "batch_size"),
    kind("resumed with another seed", resumed(seed=5), "seed"),
    kind("resumed with another rate", resumed(learning_rate=0.5), "learning_rate"),
    kind("resumed with another loss", resumed(loss__smoothness_weight=9.0), "smoothness_weight|loss"),
    kind("resumed with another optimiser", resumed(optimizer___target_="torch.optim.SGD"), "optimizer"),
    kind("resumed with another length of epochs", resumed(iterations_per_epoch=3), "iterations|epoch"),
    kind("resumed with fewer epochs than it has", resumed(max_epochs=1), "epoch|iterations"),
    kind("resumed with more data", resumed(other_data), "data"),
    kind("resumed with an empty table", resumed(table("")), r"training\.csv"),
    kind("resumed with a table of words", resumed(table("a,b\nx,y\n")), r"training\.csv"),
    kind(
        "resumed without its table",
        resumed(lambda folder: (folder / "output" / "training.csv").unlink()),
        r"training\.csv",
    ),
    kind("mistyped word of accept_changes", resumed(batch_size=2, accept_changes=["batch_sise"]), "batch_sise"),
    kind("cache_dir is a file", cache_is_file, "cache", "exist|file|director"),
    kind("output_dir is a file, pre-training", occupied(pretraining), "output", "exist|file|director"),
    kind("output_dir is a file, features", occupied(lambda f: inference("gvsl_pretrain", f)), "output"),
    kind("output_dir is a file, heart", occupied(lambda f: training(HEART, f)), "output"),
    kind("output_dir is a file, coronary arteries", occupied(lambda f: inference("gvsl_seg_coronary", f)), "output"),
    kind("output_dir is a file, brain", occupied(lambda f: evaluation("gvsl_seg_brain", f)), "output"),
    kind("output_dir is a file, chest", occupied(lambda f: inference("gvsl_covid_cls", f)), "output"),
    kind("output_dir is a file, registration", occupied(registration), "output"),
    kind("output_dir cannot be made, pre-training", unwritable("gvsl_pretrain", "train"), "/proc/campaign"),
    kind("output_dir cannot be made, features", unwritable("gvsl_pretrain", "inference"), "/proc/campaign"),
    kind("output_dir cannot be made, heart", unwritable(HEART, "inference"), "/proc/campaign"),
    kind("output_dir cannot be made, chest", unwritable("gvsl_covid_cls", "inference"), "/proc/campaign"),
    kind("output_dir cannot be made, brain", unwritable("gvsl_seg_brain", "train evaluate"), "/proc/campaign"),
    kind("output_dir is None", labelled(lambda folder: training(HEART, folder, output_dir="None")), "output_dir"),
    kind(
        "output_dir is a number",
        labelled(lambda folder: inference("gvsl_seg_brain", folder, output_dir=5)),
        "output_dir",
    ),
    kind("output_dir of a run that is not over", in_use, "output", "process|in use"),
]
