# SPDX-License-Identifier: Apache-2.0
"""Restoration: repair the damaged copy of a volume (denoising, Models Genesis, in-painting).

Each volume x of a pair gets a damage t of its own draw. The backbone sees the damaged copy t(x), and the restoration
head makes a volume of its local features; F is both together.

    denoising, Models Genesis    loss = mean over all voxels of (x - F(t(x)))^2             (`RestorationLoss`)
    in-painting                  loss = mean over the voxels of M of (x - F(t(x)))^2        (`InPaintingLoss`)
                                 M = the voxels where t(x) differs from x

- As in the comparison of GVSL (He et al., CVPR 2023, section 4): GVSL's 3D U-Net and restoration head, whose last layer
  is linear; the optimizer of all methods.
- Ours: the damage comes before the spatial transform that every task has, which moves x and t(x) alike.
- Collapse has its price: constant features restore a constant, and the loss is the variance of the intensities (for
  in-painting, inside the boxes).

Denoising (configs/pretext/denoising.json). P. Vincent, H. Larochelle, I. Lajoie, Y. Bengio, P.-A. Manzagol, "Stacked
Denoising Autoencoders: Learning Useful Representations in a Deep Network with a Local Denoising Criterion", Journal of
Machine Learning Research 11, 2010.

    t(x) = x + sigma n,    n ~ N(0, I)

- As the paper: isotropic Gaussian noise of one sigma on the whole input (MONAI's RandGaussianNoised without
  `sample_std`), squared error, the usual choice for real-valued input, and a linear output. We take the mean over the
  voxels, the paper the sum.
- As in GVSL's comparison: one network, trained in one go; the paper stacks fully connected layers with tied weights,
  which are trained one after the other. The skip connections of the U-Net let it denoise from a small neighbourhood.
- Ours: the linear interpolation of the spatial transform correlates neighbouring voxels and halves the standard
  deviation of the noise: sigma is 0.2 in denoising.json, 0.10 was measured after the transform.

Models Genesis (configs/pretext/models_genesis.json). Z. Zhou, V. Sodha, M. M. Rahman Siddiquee, R. Feng, N. Tajbakhsh,
M. B. Gotway, J. Liang, "Models Genesis: Generic Autodidactic Models for 3D Medical Image Analysis", MICCAI 2019;
Z. Zhou, V. Sodha, J. Pang, M. B. Gotway, J. Liang, "Models Genesis", Medical Image Analysis 67, 2021.

    t = painting after intensity curve after local shuffling

- As the paper and its code (rates of the released configuration): local shuffling with probability 0.5; a non-linear
  intensity curve with 0.9, which falls instead of rising in half of the draws; painting with 0.9, of which in-painting
  0.2 and out-painting 0.8. In-painting replaces up to 5 boxes of a sixth to a third of each side, out-painting all but
  up to 5 boxes of three to four sevenths; each further box is drawn with 0.95. As many voxels are shuffled for each
  voxel of the volume as by the code's 10000 boxes of sides 1 to side / 10 in 64 x 64 x 32 voxels (density 1.87).
- As in GVSL's comparison: a linear output, where the code has a sigmoid; boxes of one size for shuffling.
- Ours: the spatial transform in place of the code's random flips; Adam in place of SGD.

In-painting (configs/pretext/in_painting.json). D. Pathak, P. Krahenbuhl, J. Donahue, T. Darrell, A. A. Efros, "Context
Encoders: Feature Learning by Inpainting", CVPR 2016.

    t(x) = x outside of several boxes, uniform noise inside

- As the paper: the reconstruction loss, || M (x - F((1 - M) x)) ||^2, sees the damaged region alone; several boxes that
  may overlap and cover about a quarter. We divide by the number of voxels of M, so that how much was damaged does not
  change the weight of a step.
- Not as the paper: no adversarial term. The paper adds it, with weight 0.001 against 0.999, for sharp in-paintings: a
  discriminator makes the network choose one of the ways to fill a region, the squared error gives their mean. Features
  need no sharp pictures, and a discriminator would be a second network and optimizer that no other task has. Nor is the
  border of the region weighted higher.
- As in GVSL's comparison: the paper has a bottleneck without skip connections, with a fully connected layer for each
  channel.
- Ours: boxes of uniform noise, as in GVSL's own appearance transform, where the paper fills in the mean: nothing but
  the context says what was in the box. M is computed from the batch after the spatial transform, so it follows the
  boxes and includes the voxels that interpolation mixed at their borders.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..layers import at_least_float32
from ..networks import RestorationHead
from .pairs import features_of_pairs

SMALLEST_DAMAGE = 1e-4  # of intensities in [0, 1]: far above rounding errors, far below any noise worth restoring


class RestorationPretext(nn.Module):
    """Restores both damaged volumes of a pair.

    Args:
        backbone: a module with `forward_features(image) -> (bottleneck, local)`.
        restoration_head: maps local features to a volume.
    """

    def __init__(self, backbone: nn.Module, restoration_head: RestorationHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.restoration_head = restoration_head

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One pass of a batch of pairs.

        Args:
            batch: "moving_transformed" and "fixed_transformed", the damaged volumes; in evaluation also the clean
                volumes "moving" and "fixed"; (N, C, *spatial) each.

        Returns:
            "restored", (2N, C, *spatial), the moving volumes first.
            In evaluation also "bottleneck" and "local", the features of the clean volumes, (2N, C, ...).
        """
        damaged = torch.cat((batch["moving_transformed"], batch["fixed_transformed"]))
        outputs = {"restored": self.restoration_head(self.backbone.forward_features(damaged)[1])}
        return outputs if self.training else outputs | features_of_pairs(self.backbone, batch)


class RestorationLoss(nn.Module):
    """Mean squared error of the restored volumes over all voxels."""

    def forward(self, outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs of `RestorationPretext` and the batch it saw -> "loss" and "restoration", the same scalar."""
        clean = at_least_float32(torch.cat((batch["moving"], batch["fixed"])))
        error = F.mse_loss(at_least_float32(outputs["restored"]), clean)
        return {"loss": error, "restoration": error}


def masked_mse(restored: torch.Tensor, clean: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean squared difference over the voxels of a mask, a scalar; all of one shape. 0 for an empty mask."""
    squares = torch.where(mask, (restored - clean).square(), 0)
    return squares.sum() / mask.sum().clamp_min(1)


class InPaintingLoss(nn.Module):
    """Mean squared error of the restored volumes over the damaged voxels of the batch."""

    def forward(self, outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs of `RestorationPretext` and the batch it saw -> "loss" and "restoration", the same scalar.

        The loss of a batch without damage is 0: the spatial transform can move a small box out of the volume.
        """
        clean = at_least_float32(torch.cat((batch["moving"], batch["fixed"])))
        damaged = torch.cat((batch["moving_transformed"], batch["fixed_transformed"]))
        mask = (damaged - clean).abs() > SMALLEST_DAMAGE
        error = masked_mse(at_least_float32(outputs["restored"]), clean, mask)
        return {"loss": error, "restoration": error}
