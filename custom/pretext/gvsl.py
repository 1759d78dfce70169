# SPDX-License-Identifier: Apache-2.0
"""GVSL: register one patient to another from the features of both, and restore a damaged volume.

Y. He, G. Yang, R. Ge, Y. Chen, J.-L. Coatrieux, B. Wang, S. Li, "Geometric Visual Similarity Learning in 3D Medical
Image Self-supervised Pre-training", CVPR 2023 (sections below are the paper's).

x_A and x_B are volumes of two patients, x_A^t is x_A with a damaged appearance. The backbone gives the global features
(bottleneck) and the local features f (last decoder level) of x_A^t and x_B. From the global features the affine head
predicts an affine map M; from the local ones the deformable head predicts a displacement phi(p) at each voxel p of x_B
(section 3.2, `ZMatchingHead`). Both together map p to M(p + phi(p)) in x_A. R is the restoration head.

    L = w_g L_reg + w_s L_smooth + w_r L_rest (+ w_a L_aff + w_c L_con)

    "registration"         L_reg    = 1 - NCC(x_A(M(p + phi(p))), x_B(p))                (section 3.1.1, equation 1)
    "smoothness"           L_smooth = mean of the squared entries of grad phi(p)         (section 3.1.1, equation 2)
    "restoration"          L_rest   = mean over p of (R(f_A)(p) - x_A(p))^2              (section 3.3)
    "affine_registration"  L_aff    = 1 - NCC(x_A(M p), x_B(p)), at lower resolution     (not in the paper)
    "contrast"             L_con    = cross-entropy of finding M(p + phi(p)) by its feature, among random places
                                      (not in the paper, see `custom.losses.matched_contrast`)

The names in quotes stand in training.csv and, with "_weight", in train.json. NCC is the mean over all windows of the
squared normalised cross-correlation of two volumes within a cubic window (`custom.losses.local_ncc`).

- As the paper: one backbone for both volumes and the three heads; x_A itself, not x_A^t, is warped and restored, and
  x_B is not damaged; L_rest shares the pass of x_A^t with the registration; weights 1 (paper.json).
- As the authors' code, where the paper is silent or differs: windows of 9^3 voxels; smoothness of phi, which leaves
  rotation and scale free (the paper's equation takes the whole displacement M(p + phi(p)) - p: `smooth_field`);
  1x1x1 as last convolution of R. authors.json has the code's geometry and NCC too, for its weights.
- Ours, geometry: the field above samples x_A once where the code samples twice; equation 12 of the appendix reads phi
  at M p, not at the voxel for which the head predicted it. M is rigid in millimetres, its ranges are limited by
  tanh: the code's clamp has no gradient beyond them (`custom.layers.conventions`).
- Ours, NCC: windows without texture in x_B do not count: the code counts empty background as mismatch.
- Ours, affine stage (train.json): keypoints in place of the paper's pooled features, and L_aff, weight 6 at a quarter
  of the resolution. With heads on averaged features M stayed close to the identity: in 300 iterations on phantoms M
  alone raised the mean Dice of held-out pairs from 0.373 to 0.398 at best, with keypoints and L_aff to 0.507. This
  needs large random transforms: with +-8 degrees instead of 15 the Dice stayed at 0.373
  (benchmarks/results/affine_head_ablation.json). paper.json has the paper's head and no L_aff.
- Ours, deformable head (train.json): phi is read off the similarity of the features (`SimilarityHead`), not convolved
  from them. Both heads then have almost no weights of their own, so what registers must stand in the features. L_con
  sharpens it: of 2048 random places, each must find its match. docs/search.md has what each step brings. paper.json has
  the paper's heads and no L_con.
- Ours, spatial transform (train.json): independent for the two volumes, where the code moves both alike and the paper
  names none.
- Collapse has its price: constant features give one map for all pairs, which aligns none of them, so that L_reg is no
  better than before registration ("registration_before" of validation.csv), and they restore a constant, so that L_rest
  is the variance of the intensities. What did happen is a collapse of the bottleneck alone: with features alike for all
  volumes M is the identity for every pair. Then "registration_affine" equals "registration_before" and
  "effective_rank_bottleneck" falls.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..layers import at_least_float32, with_gradient_in_own_layout
from ..losses import AuthorsNCCLoss, LocalNCCLoss, MatchedContrastLoss, SmoothnessLoss
from ..networks import RestorationHead, SimilarityHead, ZMatchingHead
from .places import at_places, draw_places

PLACES = ("moving_places", "fixed_places", "position", "valid")  # outputs of the network that L_con compares


class GVSLPretext(nn.Module):
    """The pretext network of GVSL (figure 4 of the paper).

    Args:
        backbone: a module with `forward_features(image) -> (bottleneck, local)`, shared by both volumes.
        matching_head: the Z-matching head; None without registration.
        restoration_head: the restoration head; None without restoration.
        affine_warped: whether to give "affine_warped", which L_aff needs.
        places: number of random places of each pair at which features are given, which L_con needs; 0 for none. The
            deformable head must be a `SimilarityHead`: its features are compared. Without matching head there are none.

    Raises:
        ValueError: places with another deformable head.
    """

    def __init__(
        self,
        backbone: nn.Module,
        matching_head: ZMatchingHead | None,
        restoration_head: RestorationHead | None,
        affine_warped: bool = True,
        places: int = 0,
    ) -> None:
        super().__init__()
        if places and matching_head is not None and not isinstance(matching_head.deformable_head, SimilarityHead):
            raise ValueError(f"places is {places}, expected 0 or a SimilarityHead as deformable_head")
        self.backbone = backbone
        self.matching_head = matching_head
        self.restoration_head = restoration_head
        self.affine_warped = affine_warped
        self.places = places

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One pass of a batch of pairs.

        Args:
            batch: "moving" x_A, "moving_transformed" x_A^t and "fixed" x_B, (N, C, *spatial) each. If it holds
                "fixed_transformed", the backbone gets that instead of x_B. With places also "seed", (N,).

        Returns:
            "bottleneck" and "local": features of x_A^t and x_B stacked, (2N, C, ...).
            With the matching head "affine_matrix", "local_displacement" and "displacement" (see `ZMatchingHead`);
            "warped", x_A in the grid of x_B, and "affine_warped", the same by the affine map alone, (N, C, *spatial).
            With places "position" (N, 3, places), voxels of x_B that are drawn with the seed; the compared features
            "fixed_places" there and "moving_places" where they are matched to, (N, C, places); "valid" (N, places),
            whether neither x_B nor x_A is zero there, that is, background.
            With the restoration head "restored", (N, C, *spatial).
        """
        views = torch.cat((batch["moving_transformed"], batch.get("fixed_transformed", batch["fixed"])))
        bottleneck, local = self.backbone.forward_features(views)
        local = with_gradient_in_own_layout(local)
        outputs = {"bottleneck": bottleneck, "local": local}
        moving, fixed = zip(bottleneck.chunk(2), local.chunk(2), strict=True)
        if self.matching_head is not None:
            match = self.matching_head(moving, fixed)
            outputs |= match
            outputs["warped"] = self.matching_head.warp(batch["moving"], match)
            if self.affine_warped:
                outputs["affine_warped"] = self.matching_head.warp_affine(batch["moving"], match)
            if self.places:
                position = draw_places(batch["seed"].tolist(), local.shape[2:], self.places, local.device)
                outputs |= self.at(position, moving[1], fixed[1], outputs["displacement"].detach())
                volumes = (at_places(volume, position) for volume in (batch["fixed"], outputs["warped"].detach()))
                outputs["valid"] = torch.stack([values.gt(0).any(dim=1) for values in volumes]).all(dim=0)
        if self.restoration_head is not None:
            outputs["restored"] = self.restoration_head(moving[1])
        return outputs

    def at(
        self, position: torch.Tensor, moving: torch.Tensor, fixed: torch.Tensor, displacement: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The outputs "position", "moving_places" and "fixed_places" of `forward`."""
        matched = position + at_places(displacement, position)
        features = {}
        with torch.autocast(fixed.device.type, enabled=False):
            for name, local, places in (("moving_places", moving, matched), ("fixed_places", fixed, position)):
                local = at_least_float32(local)
                sampled, mean = at_places(local, places)[..., None, None], local.mean((2, 3, 4), keepdim=True)
                features[name] = self.matching_head.deformable_head.embed(sampled, mean).flatten(2)
        return {"position": position, **features}


class GVSLLoss(nn.Module):
    """Weighted sum of the terms above, each also returned by its name.

    A term is left out where the network does not give its outputs (ablations without a head).

    Args:
        registration_weight: w_g.
        smoothness_weight: w_s.
        restoration_weight: w_r.
        affine_registration_weight: w_a; at 0 the term is not computed.
        contrast_weight: w_c; at 0 the term is not computed.
        affine_downsampling: L_aff compares means over blocks of this side, in voxels, so that its windows reach as
            much further.
        correlation: 1 - NCC; None for `LocalNCCLoss()`.
        contrast: L_con; None for `MatchedContrastLoss()`.
        smooth_field: "local_displacement" for phi, or "displacement" for M(p + phi(p)) - p.

    Raises:
        ValueError: another `smooth_field`.
    """

    def __init__(
        self,
        registration_weight: float = 1.0,
        smoothness_weight: float = 1.0,
        restoration_weight: float = 1.0,
        affine_registration_weight: float = 0.0,
        affine_downsampling: int = 2,
        correlation: LocalNCCLoss | AuthorsNCCLoss | None = None,
        smooth_field: str = "local_displacement",
        contrast_weight: float = 0.0,
        contrast: MatchedContrastLoss | None = None,
    ) -> None:
        super().__init__()
        if smooth_field not in ("local_displacement", "displacement"):
            raise ValueError(f"smooth_field must be 'local_displacement' or 'displacement', got {smooth_field!r}")
        self.weights = {
            "registration": registration_weight,
            "smoothness": smoothness_weight,
            "restoration": restoration_weight,
            "affine_registration": affine_registration_weight,
            "contrast": contrast_weight,
        }
        self.affine_downsampling = affine_downsampling
        self.smooth_field = smooth_field
        self.correlation = LocalNCCLoss() if correlation is None else correlation
        self.smoothness = SmoothnessLoss()
        self.contrast = MatchedContrastLoss() if contrast is None else contrast

    def forward(self, outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Outputs of `GVSLPretext` and the batch it saw -> "loss", L, and the terms without their weights; scalars.

        Raises:
            ValueError: the outputs give none of the terms.
        """
        terms = {}
        if "warped" in outputs:
            terms["registration"] = self.correlation(outputs["warped"], batch["fixed"])
            terms["smoothness"] = self.smoothness(outputs[self.smooth_field])
            if self.weights["affine_registration"]:
                volumes = outputs["affine_warped"], batch["fixed"]
                coarse = (F.avg_pool3d(volume, self.affine_downsampling) for volume in volumes)
                terms["affine_registration"] = self.correlation(*coarse)
        if "position" in outputs and self.weights["contrast"]:
            terms["contrast"] = self.contrast(*(outputs[name] for name in PLACES))
        if "restored" in outputs:
            terms["restoration"] = F.mse_loss(at_least_float32(outputs["restored"]), at_least_float32(batch["moving"]))
        if not terms:
            raise ValueError(f"outputs must hold 'warped' or 'restored', got {sorted(outputs)}")
        return {"loss": torch.stack([self.weights[name] * term for name, term in terms.items()]).sum(), **terms}
