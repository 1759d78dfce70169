# SPDX-License-Identifier: Apache-2.0
"""Conversion of weights from and to the authors' GVSL code (github YutingHe-list/GVSL, one .pth of 89.8 MB)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from ..networks import AffineHead, DeformableHead, RestorationHead, UNet3D, ZMatchingHead
from ..pretext import GVSLPretext
from .state import BACKBONE_PREFIX, read_tensors

State = dict[str, torch.Tensor]

THEIR_BACKBONE_PREFIX = "unet."
# our prefix -> the authors' prefix; the rest of the name is equal
HEADS = {
    "matching_head.affine_head.conv_group.": "f_conv.double_conv.",
    "matching_head.affine_head.rotation.": "fc_rot.",
    "matching_head.affine_head.scale.": "fc_scl.",
    "matching_head.affine_head.translation.": "fc_trans.",
    "matching_head.affine_head.shear.": "fc_shear.",
    "matching_head.deformable_head.conv_group.": "sp_conv.double_conv.",
    "matching_head.deformable_head.displacement.": "out_flow.",
    "restoration_head.": "res_conv.",
}


def their_name(name: str) -> str:
    """The authors' name of a tensor of `GVSLPretext` or of `UNet3D`.

    Args:
        name: our name; with the prefix "backbone." the U-Net is a part of the whole model.

    Raises:
        ValueError: the authors' model has no such tensor.
    """
    for ours, theirs in HEADS.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    prefix = THEIR_BACKBONE_PREFIX if name.startswith(BACKBONE_PREFIX) else ""
    part, *rest = name.removeprefix(BACKBONE_PREFIX).split(".")
    if part not in ("encoder", "decoder") or len(rest) != 3:
        raise ValueError(f"{name} has no counterpart in the authors' model")
    level, layer, kind = rest
    if part == "decoder":
        return f"{prefix}up{int(level) + 1}.conv.double_conv.{layer}.{kind}"
    block = "inc" if level == "0" else f"down{level}.maxpool_conv.1"
    return f"{prefix}{block}.double_conv.{layer}.{kind}"


def read_authors_state(path: str | Path) -> State:
    """Read a file of the authors: the whole model, its U-Net with the prefix `unet.`, or the U-Net without prefix.

    Args:
        path: the .pth file. Only tensors are read, no other pickled objects.

    Returns:
        The authors' name -> tensor.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not a state dict of tensors, or holds NaN.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, expected a checkpoint of the authors' code")
    return read_tensors(path)


def from_authors(state: Mapping[str, torch.Tensor], source: str | Path) -> tuple[State, State, list[int]]:
    """Give the tensors of the authors' model our names.

    Args:
        state: from `read_authors_state`.
        source: the file, for messages.

    Returns:
        (state dict of `UNet3D`, state dict of the heads of `GVSLPretext` or {}, channels of the levels of the U-Net).

    Raises:
        ValueError: tensors are missing, unknown or of another shape; up to ten are listed.
    """
    prefix = THEIR_BACKBONE_PREFIX if any(name.startswith(THEIR_BACKBONE_PREFIX) for name in state) else ""
    channels = _widths(state, prefix, source)
    whole = any(not name.startswith(prefix) for name in state) and bool(prefix)
    expected = _pretext(channels, state, source) if whole else UNet3D(1, channels)
    ours = {their_name(name): (name, tensor) for name, tensor in expected.state_dict().items()}
    if prefix and not whole:
        ours = {prefix + name: pair for name, pair in ours.items()}
    problems = [f"{name} is missing" for name in sorted(ours.keys() - state.keys())]
    problems += [f"{name} is not in the model" for name in sorted(state.keys() - ours.keys())]
    problems += [
        f"{name} has shape {tuple(state[name].shape)}, expected {tuple(ours[name][1].shape)}"
        for name in sorted(ours.keys() & state.keys())
        if state[name].shape != ours[name][1].shape
    ]
    if problems:
        _refuse(source, problems)
    renamed = {name: state[theirs] for theirs, (name, _) in ours.items()}
    backbone = {name.removeprefix(BACKBONE_PREFIX): tensor for name, tensor in renamed.items() if _of_backbone(name)}
    return backbone, {name: tensor for name, tensor in renamed.items() if not _of_backbone(name)}, channels


def to_authors(backbone: Mapping[str, torch.Tensor], heads: Mapping[str, torch.Tensor]) -> State:
    """Give our tensors the authors' names, the reverse of `from_authors`.

    Args:
        backbone: state dict of `UNet3D`.
        heads: state dict of the heads of `GVSLPretext`, or {} for the U-Net without prefix.

    Raises:
        ValueError: the affine head works by keypoints, or the authors' model has no such tensor.
    """
    if "matching_head.affine_head.heat.weight" in heads:
        raise ValueError(
            "the affine head works by keypoints, which the authors' model cannot hold; try --backbone_only"
        )
    prefix = BACKBONE_PREFIX if heads else ""
    state = {prefix + name: tensor for name, tensor in backbone.items()} | dict(heads)
    return {their_name(name): tensor for name, tensor in state.items()}


def _widths(state: Mapping[str, torch.Tensor], prefix: str, source: str | Path) -> list[int]:
    """Channels of the levels, from the first convolution of each level."""
    first = [f"{prefix}inc.double_conv.0.weight"]
    while (name := f"{prefix}down{len(first)}.maxpool_conv.1.double_conv.0.weight") in state:
        first.append(name)
    if first[0] not in state or len(first) < 2:
        missing = first[0] if first[0] not in state else name
        _refuse(source, [f"{missing} is missing, expected a U-Net of the authors"])
    return [len(state[name]) for name in first]


def _pretext(channels: list[int], state: Mapping[str, torch.Tensor], source: str | Path) -> nn.Module:
    """A pretext network with the numbers of channels of the file."""
    widths = {}
    for layer in ("f_conv.double_conv.0.weight", "sp_conv.double_conv.0.weight", "res_conv.0.weight"):
        if layer not in state:
            _refuse(source, [f"{layer} is missing, although the file holds more than the U-Net"])
        widths[layer.split(".")[0]] = len(state[layer])
    return GVSLPretext(
        UNet3D(1, channels),
        ZMatchingHead(AffineHead(channels[-1], widths["f_conv"]), DeformableHead(channels[0], widths["sp_conv"])),
        RestorationHead(channels[0], widths["res_conv"]),
    )


def _of_backbone(name: str) -> bool:
    return not any(name.startswith(prefix) for prefix in HEADS)


def _refuse(source: str | Path, problems: Sequence[str]) -> None:
    listed = "\n  ".join(problems[:10])
    raise ValueError(f"{source} is not a model of the authors, {len(problems)} tensors do not fit:\n  {listed}")
