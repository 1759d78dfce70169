# SPDX-License-Identifier: Apache-2.0
"""nnU-Net's residual encoder U-Net as backbone (package dynamic-network-architectures, the extra `nnunet`)."""

from __future__ import annotations

from collections.abc import Sequence
from pydoc import locate
from typing import Any

from .adapted import AdaptedBackbone

CLASS = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
LAYERS = ("conv_op", "norm_op", "dropout_op", "nonlin")  # arguments that are classes


class ResidualEncoderBackbone(AdaptedBackbone):
    """The network of nnU-Net's ResEnc presets, with kernels of 3 voxels and a stride of 2 between its stages.

    Args:
        in_channels: channels of the image.
        channels: widths of the stages; the first is also the number of local features.
        blocks: residual blocks of each stage of the encoder.

    Raises:
        ImportError: dynamic-network-architectures is not installed.
        ValueError: blocks and channels have different lengths.
    """

    def __init__(self, in_channels: int, channels: Sequence[int], blocks: Sequence[int]) -> None:
        arguments = architecture(channels, blocks)
        network = locate(CLASS)
        if network is None:
            raise ImportError(f"{CLASS} is not installed, expected: pip install dynamic-network-architectures")
        arguments |= {name: locate(arguments[name]) for name in LAYERS if arguments[name]}
        built = network(input_channels=in_channels, num_classes=channels[0], **arguments)
        decoder = ["decoder.stages", "decoder.transpconvs", "decoder.seg_layers"]  # "decoder" holds the encoder too
        super().__init__(built, f"encoder.stages.{len(channels) - 1}", decoder, channels)


def architecture(channels: Sequence[int], blocks: Sequence[int]) -> dict[str, Any]:
    """The arguments `arch_kwargs` of a plans file of nnU-Net, in which classes are names.

    Args:
        channels: see `ResidualEncoderBackbone`.
        blocks: see `ResidualEncoderBackbone`.

    Raises:
        ValueError: blocks and channels have different lengths.
    """
    stages = len(channels)
    if len(blocks) != stages:
        raise ValueError(f"blocks has {len(blocks)} entries, expected {stages} as channels has")
    return {
        "n_stages": stages,
        "features_per_stage": list(channels),
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
        "n_blocks_per_stage": list(blocks),
        "n_conv_per_stage_decoder": [1] * (stages - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
