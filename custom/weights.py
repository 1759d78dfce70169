# SPDX-License-Identifier: Apache-2.0
"""Weights on disk: model.pt (the bare backbone), heads.pt (the rest of the network), model.json (what they are)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

BACKBONE_PREFIX = "backbone."
FORMAT_VERSION = 1


def sha256(path: str | os.PathLike) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_pretext(network: nn.Module, directory: str | os.PathLike, description: Mapping[str, Any]) -> None:
    """Writes model.pt, heads.pt and model.json, each under another name first and then renamed.

    Args:
        network: a pretext network with the attribute `backbone`, or its DistributedDataParallel.
        directory: made if missing.
        description: goes into model.json, with the hashes and keys of the files; must be JSON.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in unwrapped(network).state_dict().items()}
    backbone = {name.removeprefix(BACKBONE_PREFIX): tensor for name, tensor in state.items() if _in_backbone(name)}
    heads = {name: tensor for name, tensor in state.items() if not _in_backbone(name)}
    files = {}
    for name, tensors in {"model.pt": backbone, "heads.pt": heads}.items():
        temporary = directory / f".{name}.tmp"
        torch.save(tensors, temporary)
        files[name] = {
            "sha256": sha256(temporary),
            "holds": "backbone" if name == "model.pt" else "heads",
            "parameters": sum(tensor.numel() for tensor in tensors.values()),
            "keys": list(tensors),
        }
        os.replace(temporary, directory / name)
    write_json(directory / "model.json", {"format_version": FORMAT_VERSION, "files": files, **description})


def load_pretext(network: nn.Module, directory: str | os.PathLike) -> dict[str, Any]:
    """Loads what `save_pretext` wrote into a network of the same shape; returns model.json.

    Raises:
        FileNotFoundError: a file is missing. ValueError: a hash, a key or a shape does not fit; names both sides.
    """
    directory = Path(directory)
    description = read_json(directory / "model.json")
    state = {BACKBONE_PREFIX + name: tensor for name, tensor in load_state(directory, "model.pt", description).items()}
    state |= load_state(directory, "heads.pt", description)
    load_strictly(unwrapped(network), state, directory)
    return description


def load_state(directory: Path, name: str, description: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """A state dict whose file has the hash that model.json names."""
    path = directory / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, expected the {description['files'][name]['holds']} weights")
    expected, found = description["files"][name]["sha256"], sha256(path)
    if found != expected:
        raise ValueError(f"{path} has SHA-256 {found}, but {directory / 'model.json'} names {expected}")
    return torch.load(path, map_location="cpu", weights_only=True)


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


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """A JSON object; errors name the file."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path} does not exist, expected the description of the weights beside it")
    with open(path) as file:
        try:
            return json.load(file)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not valid JSON: {error}") from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Indented JSON, written under another name first and then renamed."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(temporary, path)


def _in_backbone(name: str) -> bool:
    return name.startswith(BACKBONE_PREFIX)
