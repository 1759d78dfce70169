# SPDX-License-Identifier: Apache-2.0
"""In-painting: fill boxes of a volume from what surrounds them.

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

from ..layers import at_least_float32
from ..networks import RestorationNetwork

SMALLEST_DAMAGE = 1e-4  # intensities lie in [0, 1]; far above rounding, far below any noise worth restoring


class InPaintingPretext(RestorationNetwork):
    """Restores both volumes of a pair from what surrounds their boxes (Pathak et al., CVPR 2016)."""


def masked_mse(restored: torch.Tensor, clean: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean squared difference over the voxels of a mask, all tensors of one shape; 0 where the mask is empty."""
    squares = torch.where(mask, (restored - clean).square(), 0)
    return squares.sum() / mask.sum().clamp_min(1)


class InPaintingLoss(nn.Module):
    """Mean squared error of the restored volumes to the clean ones, over the damaged voxels of the batch."""

    def forward(self, outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs of `InPaintingPretext` and the batch it saw -> "loss" and "restoration", one and the same scalar.

        A batch without damage (the spatial transform may move a small box out of sight) has loss 0.
        """
        clean = at_least_float32(torch.cat((batch["moving"], batch["fixed"])))
        damaged = torch.cat((batch["moving_transformed"], batch["fixed_transformed"]))
        mask = (damaged - clean).abs() > SMALLEST_DAMAGE
        error = masked_mse(at_least_float32(outputs["restored"]), clean, mask)
        return {"loss": error, "restoration": error}
