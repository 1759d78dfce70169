# SPDX-License-Identifier: Apache-2.0
"""Models Genesis: restore a volume after local shuffling, non-linear intensities, and in-painting or out-painting.

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
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..layers import at_least_float32
from ..networks import RestorationHead, features_of_pairs


class ModelsGenesisPretext(nn.Module):
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


class ModelsGenesisLoss(nn.Module):
    """Mean squared error of the restored volumes to the clean ones, over all voxels, damaged or not."""

    def forward(self, outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs of `ModelsGenesisPretext` and the batch -> "loss" and "restoration", one and the same scalar."""
        clean = at_least_float32(torch.cat((batch["moving"], batch["fixed"])))
        error = F.mse_loss(at_least_float32(outputs["restored"]), clean)
        return {"loss": error, "restoration": error}
