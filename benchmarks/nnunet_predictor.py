# SPDX-License-Identifier: Apache-2.0
"""nnU-Net v2's predictor around a network of ours: the extra `nnunet` of setup.cfg installs it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

for folder in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):  # read when nnunetv2 is imported, not used here
    os.environ.setdefault(folder, "")

try:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
except ModuleNotFoundError as error:
    if error.name != "nnunetv2":
        raise
    raise ModuleNotFoundError(
        "nnunetv2 is not installed, expected the extra `nnunet`: pip install .[nnunet]"
    ) from error

DEFAULT = "resample_data_or_seg_to_shape"  # what nnU-Net plans by default; likewise the arguments below


def nnunet_predictor(
    network: nn.Module,
    classes: int,
    spacing: Sequence[float],
    patch_size: Sequence[int],
    window: Sequence[float] | None,
) -> nnUNetPredictor:
    """nnU-Net's predictor as its planner would set it up, on the CPU, without mirroring.

    Args:
        network: one image channel -> logits of the classes.
        classes: with the background.
        spacing: of the network's grid, mm.
        patch_size: of a window, voxels.
        window: intensities that become 0 and 1 (clipped); None scales each volume's own range.
    """
    labels = {"background": 0} | {f"structure {value}": value for value in range(1, classes)}
    dataset = {"labels": labels, "channel_names": {"0": "image"}, "file_ending": ".nii.gz"}
    plans = PlansManager(plans_of(spacing, patch_size, window))
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    weights = [network.state_dict()]
    predictor.manual_initialization(network, plans, plans.get_configuration("3d_fullres"), weights, dataset, "", None)
    return predictor


def plans_of(spacing: Sequence[float], patch_size: Sequence[int], window: Sequence[float] | None) -> dict[str, Any]:
    """The part of nnU-Net's plans that its predictor reads; arguments as for `nnunet_predictor`."""
    resampling = {"is_seg": False, "force_separate_z": None, "order_z": 0}
    lower, upper = window or (0.0, 1.0)
    scaling = {"mean": lower, "std": upper - lower, "percentile_00_5": lower, "percentile_99_5": upper}
    configuration = {
        "preprocessor_name": "DefaultPreprocessor",
        "spacing": list(spacing),
        "patch_size": list(patch_size),
        "normalization_schemes": ["CTNormalization" if window else "RescaleTo01Normalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": DEFAULT,
        "resampling_fn_data_kwargs": resampling | {"order": 3},
        "resampling_fn_seg": DEFAULT,
        "resampling_fn_seg_kwargs": resampling | {"is_seg": True, "order": 1},
        "resampling_fn_probabilities": DEFAULT,
        "resampling_fn_probabilities_kwargs": resampling | {"order": 1},
        "architecture": {},
    }
    return {
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [2, 1, 0],  # their readers give (z, y, x), our networks take (x, y, z)
        "transpose_backward": [2, 1, 0],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": scaling},
        "configurations": {"3d_fullres": configuration},
    }
