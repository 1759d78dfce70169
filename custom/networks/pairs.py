# SPDX-License-Identifier: Apache-2.0
"""What several pretext tasks make of both volumes of a pair."""

from __future__ import annotations

import torch
from torch import nn

from .heads import RestorationHead


def features_of_pairs(backbone: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The "bottleneck" and "local" features, (2N, C, ...), of "moving" and "fixed", (N, 1, *spatial), in this order."""
    bottleneck, local = backbone.forward_features(torch.cat((batch["moving"], batch["fixed"])))
    return {"bottleneck": bottleneck, "local": local}


class RestorationNetwork(nn.Module):
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
