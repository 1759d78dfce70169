# SPDX-License-Identifier: Apache-2.0
"""Weights on disk: a state dict NAME.pt, and beside it NAME.json, which says what it is.

A pre-training run writes model.pt (the bare backbone), heads.pt (the rest of the network) and model.json about both;
a downstream run writes model.pt (the whole network) and model.json.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..files import read_json, sha256, write_json

BACKBONE_PREFIX = "backbone."
FORMAT_VERSION = 1


def save_weights(
    directory: str | os.PathLike,
    files: Mapping[str, tuple[str, Mapping[str, torch.Tensor]]],
    description: Mapping[str, Any],
) -> None:
    """Writes state dicts and model.json, each under another name first and then renamed.

    Args:
        directory: made if missing.
        files: file name -> (what it holds, state dict).
        description: goes into model.json, with the hashes and keys of the files; must be JSON.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    described = {}
    for name, (holds, tensors) in files.items():
        temporary = directory / f".{name}.tmp"
        torch.save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, temporary)
        described[name] = {
            "sha256": sha256(temporary),
            "holds": holds,
            "parameters": sum(tensor.numel() for tensor in tensors.values()),
            "keys": list(tensors),
        }
        os.replace(temporary, directory / name)
    write_json(directory / "model.json", {"format_version": FORMAT_VERSION, "files": described, **description})


def save_pretext(network: nn.Module, directory: str | os.PathLike, description: Mapping[str, Any]) -> None:
    """Writes model.pt, heads.pt and model.json of a pretext network (or its DistributedDataParallel)."""
    state = unwrapped(network).state_dict()
    backbone = {name.removeprefix(BACKBONE_PREFIX): tensor for name, tensor in state.items() if _in_backbone(name)}
    heads = {name: tensor for name, tensor in state.items() if not _in_backbone(name)}
    save_weights(directory, {"model.pt": ("backbone", backbone), "heads.pt": ("heads", heads)}, description)


def load_pretext(network: nn.Module, directory: str | os.PathLike) -> dict[str, Any]:
    """Loads what `save_pretext` wrote into a network of the same shape; returns model.json.

    Raises:
        FileNotFoundError: a file is missing. ValueError: a hash, a key or a shape does not fit; names both sides.
    """
    directory = Path(directory)
    backbone, description = read_weights(directory)
    heads, _ = read_weights(directory / "heads.pt")
    state = {BACKBONE_PREFIX + name: tensor for name, tensor in backbone.items()} | heads
    load_strictly(unwrapped(network), state, directory)
    return description


def read_weights(weights: str | os.PathLike) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The state dict of a file NAME.pt (or of model.pt in a folder) and its description.

    That is NAME.json or, where there is none, the model.json beside it, which describes heads.pt too.

    Raises:
        FileNotFoundError: a file is missing. ValueError: the hash is not that of the description.
    """
    path = weights_file(weights)
    described_by, shared = path.with_suffix(".json"), path.with_name("model.json")
    if not described_by.is_file() and shared.is_file():
        described_by = shared
    description = read_json(described_by)
    return read_state(path, description, described_by), description


def weights_file(weights: str | os.PathLike) -> Path:
    """NAME.pt itself, or model.pt of a folder."""
    path = Path(weights)
    return path / "model.pt" if path.is_dir() else path


def read_state(path: Path, description: Mapping[str, Any], described_by: Path) -> dict[str, torch.Tensor]:
    """A state dict whose file has the hash that its description names.

    Raises:
        FileNotFoundError: no such file. ValueError: not described, of another hash, or not tensors alone.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, expected weights (a state dict)")
    if path.name not in description.get("files", {}):
        raise ValueError(f"{described_by} describes {sorted(description.get('files', {}))}, expected {path.name}")
    expected, found = description["files"][path.name]["sha256"], sha256(path)
    if found != expected:
        raise ValueError(f"{path} has SHA-256 {found}, but {described_by} names {expected}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path} is not a file of tensors alone: {error}") from error


def load_strictly(network: nn.Module, state: Mapping[str, torch.Tensor], source: str | os.PathLike) -> None:
    """load_state_dict that names each key and shape that does not fit."""
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
