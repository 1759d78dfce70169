# SPDX-License-Identifier: Apache-2.0
"""Weights on disk: a state dict NAME.pt and, beside it, its description NAME.json.

A pre-training run writes model.pt (the backbone alone), heads.pt (the rest of the network) and model.json, which
describes both. A downstream run writes model.pt (the whole network) and model.json.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..files import atomic, json_text, load_tensors, read_json, save_tensors, sha256

BACKBONE_PREFIX = "backbone."
FORMAT_VERSION = 1


def save_weights(
    directory: str | os.PathLike,
    files: Mapping[str, tuple[str, Mapping[str, torch.Tensor]]],
    description: Mapping[str, Any],
) -> None:
    """Write state dicts and model.json, all under temporary names; then rename them, model.json last.

    So an error, such as a full disk, leaves what the folder had before.

    Args:
        directory: the folder; it is made.
        files: file name -> (what the file holds, state dict).
        description: entries of model.json in JSON types; the hashes and keys of the files are added.

    Raises:
        OSError: a file cannot be written; the message names it.
        ValueError: the description has NaN or infinity.
    """
    path, what = Path(directory) / "model.json", "the description of the weights"
    described = {}
    with ExitStack() as renamed:  # in reverse order
        described_by = renamed.enter_context(atomic(path, what))
        for name, (holds, tensors) in files.items():
            state = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
            weights = renamed.enter_context(atomic(path.with_name(name), "the weights"))
            save_tensors(weights, state)
            described[name] = {
                "sha256": sha256(weights),
                "holds": holds,
                "parameters": sum(tensor.numel() for tensor in tensors.values()),
                "keys": list(tensors),
            }
        content = {"format_version": FORMAT_VERSION, "files": described, **description}
        described_by.write_text(json_text(path, content, what), encoding="utf-8")


def save_pretext(network: nn.Module, directory: str | os.PathLike, description: Mapping[str, Any]) -> None:
    """Write model.pt, heads.pt and model.json of a pretext network (or DistributedDataParallel); see `save_weights`."""
    state = unwrapped(network).state_dict()
    backbone = {name.removeprefix(BACKBONE_PREFIX): tensor for name, tensor in state.items() if _in_backbone(name)}
    heads = {name: tensor for name, tensor in state.items() if not _in_backbone(name)}
    save_weights(directory, {"model.pt": ("backbone", backbone), "heads.pt": ("heads", heads)}, description)


def load_pretext(network: nn.Module, directory: str | os.PathLike) -> dict[str, Any]:
    """Load the files of `save_pretext` into a network of the same shape.

    Args:
        network: the network, or its DistributedDataParallel.
        directory: folder with model.pt, heads.pt and model.json.

    Returns:
        The content of model.json.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a hash, a key or a shape differs; the message has both values.
    """
    directory = Path(directory)
    backbone, description = read_weights(directory)
    heads, _ = read_weights(directory / "heads.pt")
    state = {BACKBONE_PREFIX + name: tensor for name, tensor in backbone.items()} | heads
    load_strictly(unwrapped(network), state, directory)
    return description


def read_weights(weights: str | os.PathLike) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read weights and their description.

    The description is NAME.json or, without this file, the model.json beside it, which describes heads.pt too.

    Args:
        weights: a file NAME.pt, or a folder with model.pt.

    Returns:
        (state dict, description).

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: see `read_state` and `custom.files.read_json`.
    """
    path, described_by = weights_file(weights), description_file(weights)
    description = read_json(described_by, "the description of the weights beside it")
    return read_state(path, description, described_by), description


def weights_file(weights: str | os.PathLike) -> Path:
    """The path of a file NAME.pt itself, or of model.pt in a folder."""
    path = Path(weights)
    return path / "model.pt" if path.is_dir() else path


def description_file(weights: str | os.PathLike) -> Path:
    """The path of NAME.json beside a file NAME.pt or, without this file, of the model.json that describes it too."""
    path = weights_file(weights)
    own, shared = path.with_suffix(".json"), path.with_name("model.json")
    return own if own.is_file() or not shared.is_file() else shared


def read_state(path: Path, description: Mapping[str, Any], described_by: Path) -> dict[str, torch.Tensor]:
    """Read a state dict and compare the hash of its file with the description.

    Args:
        path: the file.
        description: with "files": file name -> {"sha256": hash}.
        described_by: the file of the description, for messages.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not described, has another hash, holds something else than tensors, or NaN.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, expected weights (a state dict)")
    expected, actual = _described_hash(path.name, description, described_by), sha256(path)
    if actual != expected:
        raise ValueError(f"{path} has SHA-256 {actual}, but {described_by} names {expected}")
    return read_tensors(path)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict.

    Raises:
        ValueError: the file holds something else than tensors, or NaN; the message names it.
    """
    try:
        state = load_tensors(path, map_location="cpu")
    except ValueError as error:
        raise ValueError(f"{path} is not a file of tensors alone ({error})") from error
    if not isinstance(state, Mapping):
        raise ValueError(f"{path} holds a {type(state).__name__}, expected a state dict: names with tensors")
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{path}: {name} is a {type(tensor).__name__}, expected a tensor")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{path}: {name} holds NaN or infinite values, expected weights of a run that converged")
    return dict(state)


def _described_hash(name: str, description: Mapping[str, Any], described_by: Path) -> str:
    """The SHA-256 that a description has for a file."""
    files = description.get("files")
    if not isinstance(files, Mapping):
        raise ValueError(f"{described_by}: files is {files!r}, expected an object with {name}")
    if name not in files:
        raise ValueError(f"{described_by} describes {sorted(files)}, expected {name}")
    if not isinstance(files[name], Mapping) or not isinstance(files[name].get("sha256"), str):
        raise ValueError(f"{described_by}: files#{name}#sha256 is missing, expected the SHA-256 of the file")
    return files[name]["sha256"]


def load_strictly(network: nn.Module, state: Mapping[str, torch.Tensor], source: str | os.PathLike) -> None:
    """Load a state dict; the error names each key and shape that does not fit.

    Args:
        network: the network.
        state: tensor name -> tensor; every tensor of the network, and no other.
        source: where the weights come from, for the message.

    Raises:
        ValueError: keys or shapes differ; up to ten are listed.
    """
    own = network.state_dict()
    problems = [f"{name} is missing" for name in own.keys() - state.keys()]
    problems += [f"{name} is not in the network" for name in state.keys() - own.keys()]
    for name in own.keys() & state.keys():
        if own[name].shape != state[name].shape:
            shapes = f"{tuple(state[name].shape)}, the network {tuple(own[name].shape)}"
            problems.append(f"{name} has shape {shapes}")
    if problems:
        listed = "\n  ".join(sorted(problems)[:10])
        raise ValueError(f"the weights in {source} do not fit the network in {len(problems)} tensors:\n  {listed}")
    network.load_state_dict(dict(state))


def unwrapped(network: nn.Module) -> nn.Module:
    """The network inside DistributedDataParallel, or the network itself."""
    return network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network


def _in_backbone(name: str) -> bool:
    return name.startswith(BACKBONE_PREFIX)
