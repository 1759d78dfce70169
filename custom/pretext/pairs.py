# SPDX-License-Identifier: Apache-2.0
"""Features of both volumes of a pair."""

from __future__ import annotations

import torch
from torch import nn


def features_of_pairs(backbone: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """ "bottleneck" and "local" features, (2N, C, ...), of the volumes "moving", then "fixed", (N, C, *spatial)."""
    bottleneck, local = backbone.forward_features(torch.cat((batch["moving"], batch["fixed"])))
    return {"bottleneck": bottleneck, "local": local}
