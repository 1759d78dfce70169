# SPDX-License-Identifier: Apache-2.0
"""The kinds of the values that users set by name: `--resume True`, `--spacing "[1,1,1]"`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import torch
from monai.bundle import ConfigParser


def check_values(parser: ConfigParser) -> None:
    """Refuse values of another kind than expected.

    Args:
        parser: of the running config. Only the names of `KINDS` that it has are looked at.

    Raises:
        ValueError: the message has the name, the value and what is expected.
    """
    for names, is_valid, expected in KINDS:
        for name in names:
            if name in parser and not is_valid(value := parser.get_parsed_content(name)):
                raise ValueError(f"{name} is {value!r}, expected {expected}")
    check_labels(parser)
    if "device" in parser:
        check_device(parser.get_parsed_content("device"))


def check_labels(parser: ConfigParser) -> None:
    """Raises ValueError if labels that a user sets are no values (pre-training), or no names with values."""
    labels = parser.get().get("labels")
    if labels is None or isinstance(labels, str) or "_target_" in labels:  # read from the data set
        return
    if "pretext_task" in parser:
        is_valid, expected = isinstance(labels, (list, tuple)), "a list of whole numbers, such as [1,2]"
    else:
        is_valid, expected = isinstance(labels, dict), "names with whole numbers, such as {'liver': 1}"
    values = labels.values() if isinstance(labels, dict) else labels
    if not is_valid or not all(_is_whole(value, -math.inf) for value in values):
        raise ValueError(f"labels is {labels!r}, expected {expected}")


def check_device(device: Any) -> None:
    """Raises ValueError unless torch can compute on a device."""
    try:
        parsed = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device is {device!r}, expected cpu, cuda or cuda:NUMBER") from error
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if parsed.type == "cuda" and (parsed.index or 0) >= count:
        found = f"{count} CUDA devices" if count else "no CUDA device"
        raise ValueError(f"device is {str(parsed)!r}, but this machine has {found}, expected cpu or a device it has")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any, least: float) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _three(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, (list, tuple)) and len(value) == 3 and all(map(is_valid, value))


def _is_path(value: Any) -> bool:
    return isinstance(value, (str, os.PathLike)) and bool(str(value))


def _is_list_of_paths(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(map(_is_path, value))


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


PATHS = ("bundle_root", "output_dir", "dataset_dir", "model_dir")
OPTIONAL_PATHS = ("cache_dir", "overflow_dir", "pretrained_weights", "moving_label", "fixed_label")
SWITCHES = ("resume", "figures", "amp", "deterministic", "recompute")
KINDS: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (PATHS, _is_path, "a path as text, such as ./NAME (fire reads a bare 2024 as a number)"),
    (OPTIONAL_PATHS, lambda value: value is None or _is_path(value), "a path as text, such as ./NAME, or None"),
    (
        ("moving", "fixed"),
        lambda value: value is None or _is_path(value) or _is_list_of_paths(value),
        "a path as text, such as ./NAME, a list of paths, one a channel, or None",
    ),
    (SWITCHES, lambda value: isinstance(value, bool), "True or False"),
    (
        ("max_epochs", "iterations_per_epoch", "batch_size", "val_interval", "validation_pairs", "in_channels"),
        lambda value: _is_whole(value, 1),
        "a whole number of at least 1",
    ),
    (
        ("validation_share", "test_share"),
        lambda value: _is_number(value) and value >= 0 and (isinstance(value, int) or value < 1),
        "a number of subjects or a share from 0 to below 1",
    ),
    (
        ("seed", "num_workers", "warmup_iterations", "refine", "refine_affine"),
        lambda value: _is_whole(value, 0),
        "a whole number of at least 0",
    ),
    (
        ("learning_rate", "head_learning_rate", "lr_cycles", "smoothness_weight", "affine_registration_weight"),
        lambda value: _is_number(value) and value >= 0,
        "a number of at least 0",
    ),
    (("background",), lambda value: value is None or _is_number(value), "a number or None"),
    (("spacing",), _three(_is_positive), "three numbers above 0 in mm, such as [1,1,1]"),
    (("patch_size",), _three(lambda value: _is_whole(value, 1)), "three whole numbers of voxels, such as [96,96,96]"),
    (
        ("accept_mismatch", "accept_changes"),
        lambda value: isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value),
        "a list of names, such as ['spacing']",
    ),
    (
        ("channels",),
        lambda value: isinstance(value, (list, tuple)) and len(value) > 1 and all(_is_whole(n, 1) for n in value),
        "at least two whole numbers above 0, such as [16,32]",
    ),
)
