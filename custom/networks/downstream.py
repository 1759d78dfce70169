# SPDX-License-Identifier: Apache-2.0
"""The backbone with one more layer, for segmentation and for classification (He et al., CVPR 2023, section 4.1)."""

from __future__ import annotations

import torch
from torch import nn

from .unet import UNet3D


class _DownstreamNetwork(nn.Module):
    """A backbone and a head; a frozen backbone stays in evaluation mode and gets no gradient."""

    def __init__(self, backbone: UNet3D, head: nn.Module, frozen: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.frozen = frozen
        if frozen:
            self.backbone.requires_grad_(False)
            self.backbone.eval()

    def train(self, mode: bool = True) -> _DownstreamNetwork:
        """Sets training or evaluation mode, for the head alone where the backbone is frozen."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self


class SegmentationNetwork(_DownstreamNetwork):
    """Local features of the backbone, then one convolution to the logits of each voxel.

    Args:
        backbone: its `forward` gives local features (N, channels[0], *spatial).
        classes: number of structures plus one for the background.
        kernel_size: side of the convolution's kernel; 1 as the paper says ("linear"), 3 as the authors' code.
        frozen: train the convolution alone (linear evaluation).

    Raises:
        ValueError: fewer than two classes, or an even `kernel_size`.
    """

    def __init__(self, backbone: UNet3D, classes: int, kernel_size: int = 1, frozen: bool = False) -> None:
        if classes < 2 or kernel_size % 2 == 0:
            raise ValueError(f"classes is {classes}, kernel_size {kernel_size}, expected 2 or more and an odd number")
        head = nn.Conv3d(backbone.channels[0], classes, kernel_size, padding=kernel_size // 2)
        super().__init__(backbone, head, frozen)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes, *spatial) of an image (N, C, *spatial) of any size."""
        return self.head(self.backbone(image))


class ClassificationNetwork(_DownstreamNetwork):
    """Bottleneck features of the backbone, averaged over the volume, then one linear layer to the logits.

    The backbone's decoder stays in the network, so that the weights of a backbone load as a whole, but it neither runs
    nor gets gradient.

    Args:
        backbone: its `forward_bottleneck` gives features (N, channels[-1], *spatial).
        classes: number of logits.
        frozen: train the linear layer alone (linear evaluation).

    Raises:
        ValueError: `classes` is below 1.
    """

    def __init__(self, backbone: UNet3D, classes: int, frozen: bool = False) -> None:
        if classes < 1:
            raise ValueError(f"classes is {classes}, expected 1 or more")
        super().__init__(backbone, nn.Linear(backbone.channels[-1], classes), frozen)
        self.backbone.decoder.requires_grad_(False)  # DistributedDataParallel waits for every gradient

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of an image (N, C, *spatial) of any size."""
        return self.head(self.backbone.forward_bottleneck(image).mean(dim=(2, 3, 4)))
