# SPDX-License-Identifier: Apache-2.0
"""Geometric visual similarity learning: register one patient to another from shared features, and restore."""

from __future__ import annotations

import torch
from torch import nn

from ..layers import with_gradient_in_own_layout
from ..networks import RestorationHead, ZMatchingHead


class GVSLPretext(nn.Module):
    """The pretext network of GVSL (He et al., CVPR 2023, figure 4).

    Args:
        backbone: a module with `forward_features(image) -> (bottleneck, local)`; shared by both volumes.
        matching_head: the Z-matching head, or None for the ablation without it.
        restoration_head: the restoration head, or None for the ablation without it.
    """

    def __init__(
        self, backbone: nn.Module, matching_head: ZMatchingHead | None, restoration_head: RestorationHead | None
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.matching_head = matching_head
        self.restoration_head = restoration_head

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One pass of a batch of pairs.

        Args:
            batch: "moving" x_A, "moving_transformed" x_A^t and "fixed" x_B, (N, 1, *spatial) each.

        Returns:
            "bottleneck" and "local" features of x_A^t and x_B stacked, (2N, C, ...); with the matching head
            "affine_matrix", "local_displacement", "displacement" (see `ZMatchingHead`), "warped", the clean x_A in the
            grid of x_B, and "affine_warped", the same by the affine map alone; with the restoration head "restored",
            (N, 1, *spatial).
        """
        views = torch.cat((batch["moving_transformed"], batch["fixed"]))
        bottleneck, local = self.backbone.forward_features(views)
        local = with_gradient_in_own_layout(local)
        outputs = {"bottleneck": bottleneck, "local": local}
        moving, fixed = zip(bottleneck.chunk(2), local.chunk(2), strict=True)
        if self.matching_head is not None:
            match = self.matching_head(moving, fixed)
            outputs |= match
            outputs["warped"] = self.matching_head.warp(batch["moving"], match)
            outputs["affine_warped"] = self.matching_head.warp_affine(batch["moving"], match)
        if self.restoration_head is not None:
            outputs["restored"] = self.restoration_head(moving[1])
        return outputs
