# SPDX-License-Identifier: Apache-2.0
"""Restoration of both volumes of a pair: the mean squared error."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..layers import at_least_float32


class RestorationLoss(nn.Module):
    """Mean squared error of the restored volumes to the clean ones, over all voxels, damaged or not."""

    def forward(self, outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs of `RestorationNetwork` and the batch it saw -> "loss" and "restoration", one and the same scalar."""
        clean = at_least_float32(torch.cat((batch["moving"], batch["fixed"])))
        error = F.mse_loss(at_least_float32(outputs["restored"]), clean)
        return {"loss": error, "restoration": error}
