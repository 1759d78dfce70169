# SPDX-License-Identifier: Apache-2.0
"""Geometric visual similarity learning: register one patient to another from shared features, and restore."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..layers import at_least_float32, with_gradient_in_own_layout
from ..losses import LocalNCCLoss, SmoothnessLoss
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


class GVSLLoss(nn.Module):
    """Weighted sum of the terms of the GVSL paper, each also given by its name.

    Terms whose outputs a model does not give (an ablation without the matching or the restoration head) are left out.

    Args:
        registration_weight, smoothness_weight, restoration_weight: weights of the terms; 1 each in the paper.
        affine_registration_weight: weight of the registration loss after the affine stage alone. Not in the paper (0):
            it makes the affine head align what it can instead of leaving all to the deformable head.
        affine_downsampling: that term sees both volumes averaged over blocks of this side, in voxels, so that windows
            reach as much further.
        window, min_variance: see `local_ncc_loss`.
        smooth_field: "local_displacement" (the authors' code; leaves rotation and scale free) or "displacement" (the
            fused field, equation 2 of the paper).
        conventions: "physical" or "authors", which normalised cross-correlation (see `LocalNCCLoss`).
    """

    def __init__(
        self,
        registration_weight: float = 1.0,
        smoothness_weight: float = 1.0,
        restoration_weight: float = 1.0,
        affine_registration_weight: float = 0.0,
        affine_downsampling: int = 2,
        window: int = 9,
        min_variance: float = 1e-4,
        smooth_field: str = "local_displacement",
        conventions: str = "physical",
    ) -> None:
        super().__init__()
        if smooth_field not in ("local_displacement", "displacement"):
            raise ValueError(f"smooth_field must be 'local_displacement' or 'displacement', got {smooth_field!r}")
        self.weights = {
            "registration": registration_weight,
            "smoothness": smoothness_weight,
            "restoration": restoration_weight,
            "affine_registration": affine_registration_weight,
        }
        self.affine_downsampling = affine_downsampling
        self.smooth_field = smooth_field
        self.ncc = LocalNCCLoss(window, min_variance, conventions)
        self.smoothness = SmoothnessLoss()

    def forward(self, outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs of `GVSLPretext` and the batch it saw -> "loss" (the weighted sum) and the unweighted terms, scalars.

        Raises:
            ValueError: where the outputs give none of the terms.
        """
        terms = {}
        if "warped" in outputs:
            terms["registration"] = self.ncc(outputs["warped"], batch["fixed"])
            terms["smoothness"] = self.smoothness(outputs[self.smooth_field])
            if self.weights["affine_registration"]:
                coarse = (
                    F.avg_pool3d(volume, self.affine_downsampling)
                    for volume in (outputs["affine_warped"], batch["fixed"])
                )
                terms["affine_registration"] = self.ncc(*coarse)
        if "restored" in outputs:
            terms["restoration"] = F.mse_loss(at_least_float32(outputs["restored"]), at_least_float32(batch["moving"]))
        if not terms:
            raise ValueError(f"outputs must hold 'warped' or 'restored', got {sorted(outputs)}")
        return {"loss": torch.stack([self.weights[name] * term for name, term in terms.items()]).sum(), **terms}
