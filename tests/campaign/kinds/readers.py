# SPDX-License-Identifier: Apache-2.0
"""Every command that reads a volume: each gives a bad one to a config of a bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .kind import Kind, evaluation, inference, kind, pretraining, registration, training
from .volumes import nifti, structures, volumes

Write = Callable[[Path], object]  # writes a bad volume to a path


def pretrain(folder: Path, write: Write, name: str) -> list[str]:
    """Pre-training on four good volumes and the bad one."""
    write(volumes(folder / "data") / name)
    return pretraining(folder)


def cached(folder: Path, write: Write, name: str) -> list[str]:
    """Pre-training with a cache on disk, which checks volumes before training as well."""
    return [*pretrain(folder, write, name), "--cache_dir", str(folder / "cache")]


def infer(bundle: str) -> Callable[[Path, Write, str], list[str]]:
    """Inference on the bad volume alone."""

    def make(folder: Path, write: Write, name: str) -> list[str]:
        (folder / "data").mkdir()
        write(folder / "data" / name)
        return inference(bundle, folder, dataset_dir=folder / "data" / name)

    return make


def train(bundle: str, files: str = "train") -> Callable[[Path, Write, str], list[str]]:
    """Training or evaluation on four good labelled volumes and the bad one."""

    def make(folder: Path, write: Write, name: str) -> list[str]:
        data = volumes(folder / "data", labelled=True)
        write(data / "images" / name)
        nifti(data / "labels" / (name.partition(".")[0] + ".nii.gz"), structures())
        return training(bundle, folder, files)

    return make


def evaluate(folder: Path, write: Write, name: str) -> list[str]:
    """Evaluation of pre-training on four bad volumes, of which every part of the split has one."""
    data = folder / "data"
    for number in range(4):
        (data / str(number)).mkdir(parents=True)
        write(data / str(number) / name)
    return evaluation("gvsl_pretrain", folder)


def moving(folder: Path, write: Write, name: str) -> list[str]:
    """Registration of the bad volume."""
    write(volumes(folder / "data", 2) / name)
    return registration(folder, moving=folder / "data" / name)


def fixed(folder: Path, write: Write, name: str) -> list[str]:
    """Registration to the bad volume."""
    write(volumes(folder / "data", 2) / name)
    return registration(folder, fixed=folder / "data" / name)


READERS = {
    "pretrain": pretrain,
    "cached": cached,
    "evaluate": evaluate,
    "features": infer("gvsl_pretrain"),
    "heart": infer("gvsl_seg_heart"),
    "coronary": infer("gvsl_seg_coronary"),
    "brain": infer("gvsl_seg_brain"),
    "covid": infer("gvsl_covid_cls"),
    "heart training": train("gvsl_seg_heart"),
    "coronary training": train("gvsl_seg_coronary"),
    "brain training": train("gvsl_seg_brain"),
    "moving": moving,
    "fixed": fixed,
}


def volume_kind(name: str, file: str, reader: str, write: Write, *words: str) -> Kind:
    """A kind of bad volume.

    Args:
        name: what is wrong.
        file: name of the file or folder; the error must have it.
        reader: key of `READERS`.
        write: writes it.
        words: see `Kind`.
    """
    return kind(name, lambda folder: READERS[reader](folder, write, file), file.replace(".", r"\."), *words)
