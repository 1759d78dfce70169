# SPDX-License-Identifier: Apache-2.0
"""Denoising: restore a volume to which Gaussian noise was added.

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
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..layers import at_least_float32
from ..networks import RestorationHead, features_of_pairs


class DenoisingPretext(nn.Module):
    """Backbone and restoration head on both noisy volumes of a pair.

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
            batch: "moving_transformed" and "fixed_transformed", the noisy volumes, and in evaluation "moving" and
                "fixed", the clean ones, (N, 1, *spatial) each.

        Returns:
            "restored", (2N, 1, *spatial), the moving volumes first; in evaluation also "bottleneck" and "local", the
            features of the clean volumes, (2N, C, ...).
        """
        noisy = torch.cat((batch["moving_transformed"], batch["fixed_transformed"]))
        outputs = {"restored": self.restoration_head(self.backbone.forward_features(noisy)[1])}
        return outputs if self.training else outputs | features_of_pairs(self.backbone, batch)


class DenoisingLoss(nn.Module):
    """Mean squared error of the restored volumes to the clean ones, over all voxels."""

    def forward(self, outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs of `DenoisingPretext` and the batch it saw -> "loss" and "restoration", one and the same scalar."""
        clean = at_least_float32(torch.cat((batch["moving"], batch["fixed"])))
        error = F.mse_loss(at_least_float32(outputs["restored"]), clean)
        return {"loss": error, "restoration": error}
