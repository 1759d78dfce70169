# SPDX-License-Identifier: Apache-2.0
"""The GVSL loss: registration, smoothness and restoration as named terms."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..layers import at_least_float32
from .local_ncc import LocalNCCLoss
from .smoothness import SmoothnessLoss


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
