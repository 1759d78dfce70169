# SPDX-License-Identifier: Apache-2.0
"""Restoration of damaged volumes: denoising, Models Genesis, in-painting.

Denoising: restore a volume to which Gaussian noise was added.

Vincent, Larochelle, Lajoie, Bengio, Manzagol: Stacked Denoising Autoencoders: Learning Useful Representations in a Deep
Network with a Local Denoising Criterion. Journal of Machine Learning Research 11, 2010.

    loss = E || x - g(f(x~)) ||^2,  x~ = x + sigma * n,  n ~ N(0, I)

f: backbone, up to its local features; g: restoration head; x~ and x are both volumes of a pair, each with noise of its
own. We average over voxels where the paper sums.

As in the paper: additive isotropic Gaussian noise of one sigma (MONAI's RandGaussianNoised without `sample_std`) on the
whole input, squared error, the usual choice for real-valued input, and a linear output.
As in the comparison of GVSL (He et al., CVPR 2023, section 4): one 3D U-Net trained in one go, where the paper stacks
fully connected layers that are trained one after the other with tied weights. Its skip connections let a network
denoise from a small neighbourhood.
Ours: noise comes before the spatial transform, which moves clean and noisy volume together; linear interpolation halves
its standard deviation (0.2 in the overlay, 0.10 measured behind the transform) and correlates neighbours.

Collapse: constant features restore a constant, whose loss is the variance of the intensities.


Models Genesis: restore a volume after local shuffling, non-linear intensities, and in-painting or out-painting.

Zhou, Sodha, Rahman Siddiquee, Feng, Tajbakhsh, Gotway, Liang: Models Genesis: Generic Autodidactic Models for 3D
Medical Image Analysis. MICCAI 2019; Zhou, Sodha, Pang, Gotway, Liang: Models Genesis. Medical Image Analysis 67, 2021.

    loss = mean over all voxels of (x - F(t(x)))^2,  t = painting after intensity after shuffling

F: backbone and restoration head; x are both volumes of a pair, each with a draw of t of its own.

As in the paper and its code (rates of the released configuration): shuffling with probability 0.5, the non-linear curve
with 0.9 (it falls instead of rising in half of the draws), painting with 0.9, of which in-painting 0.2 and out-painting
0.8; in-painting by up to 5 boxes of a sixth to a third of each side, out-painting around up to 5 of three to four
sevenths, each further box with 0.95; as many shuffled voxels for each voxel as 10000 boxes of sides 1 to side / 10
give in the code's 64 x 64 x 32 (density 1.87).
As in the comparison of GVSL (He et al., CVPR 2023, section 4): its 3D U-Net; its restoration head, linear at the end
where the code has a sigmoid; its shuffling, boxes of one size.
Ours: the spatial transform of every task, which moves clean and damaged volume together, in place of the code's random
flips; Adam in place of SGD.

Collapse: constant features restore a constant, whose loss is the variance of the intensities.


In-painting: fill boxes of a volume from what surrounds them.

Pathak, Krahenbuhl, Donahue, Darrell, Efros: Context Encoders: Feature Learning by Inpainting. CVPR 2016.

    loss = sum over M of (x - F(x~))^2 / |M|,  M = {voxels where x~ differs from x}

F: backbone and restoration head; x~ and x are both volumes of a pair, each with boxes of its own. This is the paper's
reconstruction loss, || M (x - F((1 - M) x)) ||^2, as a mean: how much was damaged does not change the weight of a step.

As in the paper: the loss sees the damaged region alone, several boxes that may overlap and cover about a quarter.
Not as in the paper: no adversarial term. The paper adds it, with weight 0.001 against 0.999, for in-paintings that look
sharp: a discriminator chooses one of the ways to fill a region where the squared error means them all. That makes
pictures; for features the squared error is the task, and a discriminator of its own would be a second network and
optimizer that none of the other tasks has. Nor do we weight the border of the region higher.
As in the comparison of GVSL (He et al., CVPR 2023, section 4): the 3D U-Net, where the paper has a bottleneck without
skip connections and a fully connected layer for each channel.
Ours: boxes hold uniform noise as in GVSL's own appearance transform, where the paper fills in the mean, so that nothing
but context tells the region. The mask is read off the batch, behind the spatial transform that moves clean and damaged
volume together: it follows the boxes wherever they go, with the voxels that interpolation mixed at their borders.

Collapse: constant features restore a constant, whose loss is the variance of the intensities inside the boxes.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..layers import at_least_float32
from ..networks import RestorationHead
from .pairs import features_of_pairs

SMALLEST_DAMAGE = 1e-4  # intensities lie in [0, 1]; far above rounding, far below any noise worth restoring


class RestorationPretext(nn.Module):
    """Backbone and restoration head on both damaged volumes of a pair.

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
            batch: "moving_transformed" and "fixed_transformed", the damaged volumes, and in evaluation "moving" and
                "fixed", the clean ones, (N, 1, *spatial) each.

        Returns:
            "restored", (2N, 1, *spatial), the moving volumes first; in evaluation also "bottleneck" and "local", the
            features of the clean volumes, (2N, C, ...).
        """
        damaged = torch.cat((batch["moving_transformed"], batch["fixed_transformed"]))
        outputs = {"restored": self.restoration_head(self.backbone.forward_features(damaged)[1])}
        return outputs if self.training else outputs | features_of_pairs(self.backbone, batch)


class RestorationLoss(nn.Module):
    """Mean squared error of the restored volumes to the clean ones, over all voxels, damaged or not."""

    def forward(self, outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs of `RestorationPretext` and the batch it saw -> "loss" and "restoration", one and the same scalar."""
        clean = at_least_float32(torch.cat((batch["moving"], batch["fixed"])))
        error = F.mse_loss(at_least_float32(outputs["restored"]), clean)
        return {"loss": error, "restoration": error}


def masked_mse(restored: torch.Tensor, clean: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean squared difference over the voxels of a mask, all tensors of one shape; 0 where the mask is empty."""
    squares = torch.where(mask, (restored - clean).square(), 0)
    return squares.sum() / mask.sum().clamp_min(1)


class InPaintingLoss(nn.Module):
    """Mean squared error of the restored volumes to the clean ones, over the damaged voxels of the batch."""

    def forward(self, outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs of `RestorationPretext` and the batch it saw -> "loss" and "restoration", one and the same scalar.

        A batch without damage (the spatial transform may move a small box out of sight) has loss 0.
        """
        clean = at_least_float32(torch.cat((batch["moving"], batch["fixed"])))
        damaged = torch.cat((batch["moving_transformed"], batch["fixed_transformed"]))
        mask = (damaged - clean).abs() > SMALLEST_DAMAGE
        error = masked_mse(at_least_float32(outputs["restored"]), clean, mask)
        return {"loss": error, "restoration": error}
